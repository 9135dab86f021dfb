"""The template process: Python with everything a harness needs imported, waiting to be forked.

One thread, no event loop, no secrets, no descriptor but its control socket, /dev/null and the
socket of its spare.  Each message on the control socket brings three descriptors (the order in a
nameless file, the socket for the status, the network namespace) and makes one fork, or goes to the
spare that was forked before (backends/spares.py).  The end of the control socket is the end of the
template; harnesses that were forked from it live on.

Started by the engine as `python -m paas.container.template MODULE:FUNCTION` with the control socket
as standard input.  It answers one byte when it is ready.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from typing import cast

import msgspec

from paas.container.backends import lxc, namespaces
from paas.container.backends.spares import DESCRIPTORS, Spare
from paas.container.launch import READY, BackEnd, Failure, Harness, Status, launch
from paas.container.plan import LaunchOrder
from paas.container.seccomp import Programs, compile_programs

FORK = b"l"
SPARE = b"s"
"""What the control socket says: fork for this order, or give it to a spare if there is one."""

SPARED = frozenset({"namespaces"})
"""Back ends whose orders a spare can take."""

SPARE_PAUSE_S = 0.02
"""A spare is made when nothing was asked for so long."""

SPARE_RETRY_S = 1.0

_BACK_ENDS: dict[str, BackEnd] = {
    "namespaces": namespaces.bring_up,
    "lxc": lxc.bring_up,
}


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
    warm()
    # What is in memory now is shared with every harness: keep the collector from writing to it.
    gc.collect()
    gc.freeze()
    control.send(READY)
    Template(control, programs, harness).serve()
    return 0


def warm() -> None:
    """What is worked out at the first use is worked out here, once, and not in every fork."""
    with contextlib.suppress(msgspec.ValidationError):
        msgspec.msgpack.decode(b"\x80", type=LaunchOrder)
    msgspec.msgpack.encode(Status(timings_ms={"a": 1.0}, failure=Failure("", 0, "")))


class Template:
    """Serves one control socket."""

    def __init__(self, control: socket.socket, programs: Programs, harness: Harness) -> None:
        self._control = control
        self._programs = programs
        self._harness = harness
        self._spare: Spare | None = None

    def serve(self) -> None:
        """Until the end of the control socket."""
        pause_s = SPARE_PAUSE_S
        while True:
            self._control.settimeout(pause_s if self._spare is None else None)
            try:
                word, fds, _, _ = socket.recv_fds(self._control, 1, DESCRIPTORS)
            except TimeoutError:
                pause_s = SPARE_PAUSE_S if self._make_spare() else SPARE_RETRY_S
                continue
            if not word:
                return
            if len(fds) == DESCRIPTORS:
                self._launch(word, fds)
            for fd in fds:
                os.close(fd)

    def _make_spare(self) -> bool:
        """It can be done without: when nothing can be forked now, that is tried again later."""
        try:
            self._spare = Spare(self._programs, self._harness, self._control)
        except OSError:
            return False
        return True

    def _launch(self, word: bytes, fds: list[int]) -> None:
        if word == SPARE and self._spare is not None:
            spare, self._spare = self._spare, None
            if spare.take(fds):
                return
        if os.fork() == 0:
            if self._spare is not None:
                self._spare.close()
            self._control.close()
            order_fd, status_fd, network_fd = fds
            launch(order_fd, status_fd, network_fd, self._programs, self._harness, _BACK_ENDS)


def load(name: str) -> Harness:
    """Find the function `module:function`."""
    module, _, function = name.partition(":")
    return cast(Harness, getattr(importlib.import_module(module), function))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
