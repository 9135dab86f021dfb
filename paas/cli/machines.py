"""One machine of a development cluster of several nodes, and what may be done to it (io).

    off ── boot ──> running ── pause ──> paused          machine.json in the node's state directory
     ^                │  ^                 │             says who it is and what it must not hear
     └──── kill ──────┘  └──── resume ─────┘

A machine is process 1 of namespaces of its own (`real.kernel_machine`): the supervisor of one node,
the same program that watches a single node.  It is a daemon: no command needs to stay for it.

Invariants: process 1 is only ever signalled through a descriptor whose start time was compared; a
record without a process is that of a machine that is off.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paas.base.errors import PlatformError
from paas.cli import joining, limits, partition, place, supervisor
from paas.cli.machine_record import Machine, process_state, write
from paas.real import kernel_machine
from paas.real.kernel_netns import configure_machine

if TYPE_CHECKING:
    from paas.real.kernel_netlink import Switch

Command = Callable[[Path, int], list[str]]
"""From a state directory and the descriptor for `ready` to the program of process 1."""


def supervisor_command(state: Path, ready_fd: int) -> list[str]:
    return [sys.executable, "-m", "paas.cli.supervisor", str(state), str(ready_fd)]


def open_switch(bridge: str) -> Switch:
    """The bridge by its name.  Imported when needed: the library takes longer than a command."""
    from paas.real.kernel_netlink import Switch

    return Switch(bridge)


class Booting:
    """A machine whose process 1 waits; `ready` says what becomes of it (supervisor.main)."""

    def __init__(self, machine: Machine, waiting: kernel_machine.Waiting, ready: int) -> None:
        self.machine = machine
        self.ready = ready
        self._waiting = waiting

    def go(self) -> None:
        try:
            self._waiting.go()
        except OSError:
            raise PlatformError("failed", f"machine {self.machine.name} has ended") from None

    def close(self) -> None:
        self._waiting.abandon()
        os.close(self.ready)


def boot(machine: Machine, switch: Switch, command: Command = supervisor_command) -> Booting:
    """Switch a machine on, as far as the gate.  Raises `conflict` when it is on."""
    if machine.condition != "off":
        raise PlatformError("conflict", f"machine {machine.name} is on already")
    supervisor.prepare(machine.state)
    log = machine.state / place.LOG_FILE
    supervisor.rotate(log)
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    try:
        program = kernel_machine.Program(
            command(machine.state, ready_write),
            supervisor.environment(),
            str(log),
            (ready_write,),
        )
        waiting = kernel_machine.start(machine.name, program)
    except OSError as exc:
        os.close(ready_read)
        raise PlatformError("unsupported", f"no machine can be made here: {exc}") from None
    finally:
        os.close(ready_write)
    machine = replace(machine, pid=waiting.pid, ticks=waiting.ticks)
    try:
        write(machine)
        _connect(machine, switch)
    except BaseException:
        waiting.abandon()
        os.close(ready_read)
        kill(machine)
        raise
    return Booting(machine, waiting, ready_read)


def _connect(machine: Machine, switch: Switch) -> None:
    namespace = os.open(machine.network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        switch.plug(machine.link, namespace)
    except OSError as exc:
        raise PlatformError("failed", f"the link of {machine.name}: {exc}") from None
    finally:
        os.close(namespace)
    with kernel_machine.inside(machine.network):
        configure_machine(machine.address, machine.length)
        if machine.unheard:
            _filter(list(machine.unheard))


def start_inside(machine: Machine, words: list[str]) -> subprocess.Popen[str]:
    """A program on the machine's network, but not in it: it has the host's files and processes."""
    with kernel_machine.inside(machine.network):
        return joining.spawn_here(words)


# -- what may be done to it ----------------------------------------------------------------------


def kill(machine: Machine) -> bool:
    """A power cut: returns when nothing of the machine runs.  Was there anything?"""
    return _end(machine, signal.SIGKILL, limits.MACHINE_END_TIMEOUT_S)


def ask_to_end(machine: Machine) -> None:
    """An orderly stop of its node, which goes on by itself."""
    resume(machine)
    _signal(machine, signal.SIGTERM)


def wait_end(machine: Machine, timeout_s: float) -> bool:
    """Has it ended within this time?"""
    opened = descriptor(machine)
    if opened is None:
        return True
    try:
        found, _, _ = select.select([opened], [], [], max(0.0, timeout_s))
        return bool(found)
    finally:
        os.close(opened)


def pause(machine: Machine) -> None:
    """Stop every process of it.  Time goes on; who resumes it finds it later than it thought."""
    _signal_all(machine, signal.SIGSTOP, lambda state: state in "TtZX")


def resume(machine: Machine) -> None:
    """Let every process of a paused machine go on; one that is not paused is left alone."""
    if machine.condition == "paused":
        _signal_all(machine, signal.SIGCONT, lambda state: state != "T")


def set_unheard(machine: Machine, networks: tuple[str, ...]) -> Machine:
    """From now on the machine hears nothing from these networks, also after it was off."""
    changed = replace(machine, unheard=networks)
    write(changed)
    if changed.condition != "off":
        with kernel_machine.inside(changed.network):
            _filter(list(networks))
    return changed


def _filter(networks: list[str]) -> None:
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise PlatformError("unsupported", "nft is missing", hint="install the package nftables")
    done = subprocess.run(
        [program, "-j", "-f", "-"],
        input=partition.filter_document(networks),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PlatformError("failed", f"nft: {(done.stderr.splitlines() or ['no word'])[0]}")


def _signal_all(machine: Machine, number: signal.Signals, done: Callable[[str], bool]) -> None:
    """Until every process of the machine is in a state that is `done`.

    Parents come first: what has stopped makes no new processes, so the rounds come to an end.
    """
    until = time.monotonic() + limits.PAUSE_TIMEOUT_S
    while machine.pid is not None and machine.condition != "off":
        others = [p for p in kernel_machine.processes(machine.pid) if not _is(p, done)]
        if not others:
            return
        if time.monotonic() > until:
            raise PlatformError("failed", f"{len(others)} processes of {machine.name} go on")
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.002)
    raise PlatformError("refused", f"{machine.name} is off", hint="see: paas nodes resume")


def _is(pid: int, done: Callable[[str], bool]) -> bool:
    found = process_state(pid)
    return found is None or done(found[0])


def _end(machine: Machine, number: signal.Signals, timeout_s: float) -> bool:
    was = _signal(machine, number)
    if not wait_end(machine, timeout_s):
        raise PlatformError("failed", f"machine {machine.name} does not end")
    return was


def _signal(machine: Machine, number: signal.Signals) -> bool:
    opened = descriptor(machine)
    if opened is None:
        return False
    try:
        signal.pidfd_send_signal(opened, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(opened)
    return True


def descriptor(machine: Machine) -> int | None:
    """A descriptor of process 1, if it is still that process and has not ended."""
    if machine.pid is None:
        return None
    try:
        opened = os.pidfd_open(machine.pid)
    except ProcessLookupError:
        return None
    # The descriptor is taken first: if the start time still agrees, it names the right process.
    if machine.condition == "off":
        os.close(opened)
        return None
    return opened
