"""Machines with a small program in the place of a node, on a bridge of their own.

Everything is named after a temporary state directory, and ended by the exact process after the
test, so that clusters and tests beside these are not touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.cli import address_plan, machines, supervisor
from paas.cli.machine_record import Machine, read
from paas.real import kernel_machine

PATIENCE_S = 30.0
PORT = 7_000

FIRST = """
import json, os, signal, socket, subprocess, sys, time
state, ready = sys.argv[1], int(sys.argv[2])
if os.path.exists(f"{state}/hangs"):
    time.sleep(1_000)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1_000)"],
                         start_new_session=True)
listener = socket.create_server(("0.0.0.0", 7000))
with open(f"{state}/seen", "w") as file:
    json.dump({
        "pid": os.getpid(),
        "child": child.pid,
        "host": socket.gethostname(),
        "processes": [int(n) for n in os.listdir("/proc") if n.isdigit()],
        "links": os.listdir("/proc/sys/net/ipv4/conf"),
    }, file)
subprocess.run(["mount", "-t", "tmpfs", "none", f"{state}/mnt"], check=True)
os.write(ready, json.dumps({"ready": True}).encode() + b"\\n")
os.close(ready)
while True:
    connection, peer = listener.accept()
    connection.sendall(peer[0].encode())
    connection.close()
"""


def until(condition: Callable[[], Any], why: str = "not in time") -> Any:
    """The condition's value, once it is true."""
    end_s = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < end_s, why
        time.sleep(0.02)
    return value


class Machines:
    """Up to nine machines with that program."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.digits = supervisor.digits(self.state)
        self.program = folder / "first.py"
        self.program.write_text(FIRST)
        taken = address_plan.routes(address_plan.ROUTES.read_text())
        self.plan = address_plan.plan(self.digits, 9, taken)
        self.bridge = f"pm{self.digits}"
        self.switch = machines.open_switch(self.bridge)
        self.switch.open(self.plan.host, 24)

    def command(self, state: Path, ready_fd: int) -> list[str]:
        return [sys.executable, str(self.program), str(state), str(ready_fd)]

    def made(self, number: int) -> Machine:
        name = f"n{number}"
        state = self.state / "nodes" / name
        (state / "mnt").mkdir(parents=True, exist_ok=True)
        known = read(state)
        link = f"pm{self.digits[:6]}{name}"
        address = self.plan.address(number)
        return known or Machine(name, state, address, 24, self.bridge, link)

    def boot(self, number: int) -> machines.Booting:
        return machines.boot(self.made(number), self.switch, self.command)

    def start(self, *numbers: int) -> list[Machine]:
        """Switch them on, and wait until their programs run."""
        started = [self.boot(number) for number in numbers]
        for booting in started:
            booting.go()
        for booting in started:
            found, _, _ = select.select([booting.ready], [], [], PATIENCE_S)
            assert found, "not ready"
            assert json.loads(os.read(booting.ready, 4_096)) == {"ready": True}
            booting.close()
        return [booting.machine for booting in started]

    def seen(self, machine: Machine) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((machine.state / "seen").read_text())
        return found

    def hears(self, machine: Machine, other: Machine) -> bool:
        """Does what `machine` sends arrive at `other`, and the answer at `machine`?"""
        with kernel_machine.inside(machine.network):
            sock = socket.socket()
        with sock:
            sock.settimeout(0.4)
            try:
                sock.connect((other.address, PORT))
                return sock.recv(100).decode() == machine.address
            except TimeoutError:
                return False

    def arrives(self, sender: Machine, receiver: Machine) -> bool:
        """Does a datagram arrive?  One way: nothing is answered."""
        with kernel_machine.inside(receiver.network):
            inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with kernel_machine.inside(sender.network):
            outbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with inbox, outbox:
            inbox.bind((receiver.address, 0))
            inbox.settimeout(0.4)
            outbox.sendto(b"x", inbox.getsockname())
            try:
                return inbox.recv(10) == b"x"
            except TimeoutError:
                return False

    def end(self) -> None:
        for folder in (self.state / "nodes").glob("*"):
            machine = read(folder)
            if machine is not None:
                machines.kill(machine)
                self.switch.unplug(machine.link)
        self.switch.remove()
        self.switch.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Machines]:
    one = Machines(tmp_path)
    try:
        yield one
    finally:
        one.end()


def processes_of(machine: Machine) -> list[int]:
    assert machine.pid is not None
    return kernel_machine.processes(machine.pid)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


def tables(machine: Machine) -> str:
    """The packet filter inside a machine."""
    with kernel_machine.inside(machine.network):
        done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True)
    return done.stdout.decode()
