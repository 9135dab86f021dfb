"""A harness with an event loop: what the real one needs of its container must work.

Connects to the hub through the descriptor it was handed, says there what it sees, and ends.
"""

from __future__ import annotations

import json
import os
import socket
import threading

import trio

from paas.harness.settings import Handoff


def main(handoff: Handoff) -> int:
    """Run the loop to its end."""
    os.write(handoff.exit_file_fd, trio.run(speak, handoff))
    return 0


async def speak(handoff: Handoff) -> bytes:
    """Talk to the hub, run a child and a thread."""
    path = f"/proc/self/fd/{handoff.hub_directory_fd}/harness.sock"
    stream = await trio.open_unix_socket(path)
    child = await trio.run_process(["/bin/sh", "-c", "echo child"], capture_stdout=True)
    thread = await trio.to_thread.run_sync(threading.get_ident)
    seen = {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "component": handoff.component,
        "incarnation": handoff.incarnation,
        "configuration": handoff.configuration,
        "child": child.stdout.decode().strip(),
        "thread": thread != threading.get_ident(),
        "host": socket.gethostname(),
    }
    await stream.send_all(json.dumps(seen).encode())
    await stream.send_eof()
    return json.dumps({"code": 0, "signal": None, "reason": "normal"}).encode()
