"""The template process: Python with everything a harness needs imported, waiting to be forked.

One thread, no event loop, no secrets, no descriptor but its control socket and /dev/null.  Each
message on the control socket brings three descriptors (the order in a nameless file, the socket for
the status, the network namespace) and makes one fork.  The end of the control socket is the end of
the template; harnesses that were forked from it live on.

Started by the engine as `python -m paas.container.template MODULE:FUNCTION` with the control socket
as standard input.  It answers one byte when it is ready.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from typing import cast

from paas.container.launch import Harness, launch
from paas.container.seccomp import Programs, compile_programs

READY = b"r"
_DESCRIPTORS = 3


def main(harness_name: str) -> int:
    """Serve forks until the control socket ends."""
    harness = load(harness_name)
    programs = compile_programs()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the short-lived forks
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    # What is in memory now is shared with every harness: keep the collector from writing to it.
    gc.collect()
    gc.freeze()
    control.send(READY)
    while _serve(control, programs, harness):
        pass
    return 0


def load(name: str) -> Harness:
    """Find the function `module:function`."""
    module, _, function = name.partition(":")
    return cast(Harness, getattr(importlib.import_module(module), function))


def _serve(control: socket.socket, programs: Programs, harness: Harness) -> bool:
    message, fds, _, _ = socket.recv_fds(control, 1, _DESCRIPTORS)
    if not message:
        return False
    if len(fds) == _DESCRIPTORS and os.fork() == 0:
        control.close()
        order_fd, status_fd, network_fd = fds
        launch(order_fd, status_fd, network_fd, programs, harness)
    for fd in fds:
        os.close(fd)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
