"""What is to be reached from inside, set up for real: listeners, queues, shared memory, canaries.

Everything has a name of its own and is removed at the end of the block.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

_LIBC = ctypes.CDLL(None, use_errno=True)
_CREATE, _EXCLUSIVE, _REMOVE = 0o1000, 0o2000, 0


@contextlib.contextmanager
def things_of_the_host(folder: Path, network: str) -> Iterator[dict[str, Any]]:
    """FACTS of the attempts, but for the neighbour's."""
    with contextlib.ExitStack() as stack:
        name = f"paas-probe-{os.getpid()}"
        facts: dict[str, Any] = {
            "gateway": str(ipaddress.ip_network(network)[1]),
            "host": _another_address(),
            "process": os.getpid(),
        }
        for kind, fact in ((socket.SOCK_STREAM, "port"), (socket.SOCK_DGRAM, "datagram_port")):
            one = stack.enter_context(socket.socket(socket.AF_INET, kind))
            one.bind(("0.0.0.0", 0))
            facts[fact] = one.getsockname()[1]
            if kind == socket.SOCK_STREAM:
                one.listen()
            else:
                stack.enter_context(_answering(one))
        for path in ("\0" + name, str(folder / "hub" / "harness.sock")):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen()
        facts |= {"abstract": name, "hub_socket": str(folder / "hub" / "harness.sock")}
        facts |= _queues(stack, name)
        canary = folder / "canary-of-the-host"
        canary.write_text("canary")
        facts["canary"] = str(canary)
        facts["shared_file"] = f"/dev/shm/{name}"
        Path(facts["shared_file"]).write_text("canary")
        stack.callback(os.unlink, facts["shared_file"])
        yield facts


@contextlib.contextmanager
def _answering(one: socket.socket) -> Iterator[None]:
    """Send every datagram back to where it came from; an empty one from ourselves is the end."""

    def answer() -> None:
        while True:
            data, sender = one.recvfrom(100)
            if not data:
                return
            one.sendto(data, sender)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", one.getsockname()[1]))
        thread.join()


def _queues(stack: contextlib.ExitStack, name: str) -> dict[str, Any]:
    key = 0x50000000 | os.getpid()
    how = _CREATE | _EXCLUSIVE | 0o666
    memory, queue = _LIBC.shmget(key, 4096, how), _LIBC.msgget(key, how)
    assert memory >= 0
    assert queue >= 0
    stack.callback(_LIBC.shmctl, memory, _REMOVE, None)
    stack.callback(_LIBC.msgctl, queue, _REMOVE, None)
    named = f"/{name}".encode()
    opened = _LIBC.mq_open(named, os.O_CREAT | os.O_RDWR, 0o666, None)
    assert opened >= 0
    stack.callback(os.close, opened)
    stack.callback(_LIBC.mq_unlink, named)
    return {"memory_key": key, "queue_key": key, "named_queue": named.decode()}


def _another_address() -> str:
    """One of the host's that is not the containers' gateway."""
    for link in psutil.net_if_addrs().values():
        for address in link:
            if address.family == socket.AF_INET and not address.address.startswith(("127.", "10.")):
                return address.address
    return "127.0.0.2"


def bundle(folder: Path) -> None:
    """What a hostile bundle brings: a setuid program of the host's root, a disk, a link out."""
    here = Path(__file__).parent
    for name in ("inside.py", "attempts_kernel.py", "attempts_files.py", "attempts_world.py"):
        shutil.copyfile(here / name, folder / name)
    program = folder / "setuid"
    shutil.copyfile("/usr/bin/id", program)
    program.chmod(0o6755)
    os.mknod(folder / "disk", 0o666 | 0o060000, os.stat("/").st_dev)
    os.chmod(folder / "disk", 0o666)
