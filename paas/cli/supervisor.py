"""The outermost supervisor of a development cluster: it keeps a node controller alive (io).

    paas dev ──> supervisor ──> python -m paas node --state DIR ──> agents ──> components
                 (lock held)     says "ready" or "error: …" on the descriptor PAAS_READY_FD

What it decides: when the node is started again (after any death that was not asked for, with
growing delays), when it gives up (a first start that fails, unless it is one node of several that
has worked before; RESTARTS_MAX deaths in RESTARTS_WITHIN_S), and what the end is: SIGTERM to the
node, its time, SIGKILL, then `python -m paas cleanup`, so that nothing is left in the kernel.

Invariants: the lock on agents/supervisor.lock is held exactly as long as a supervisor lives (the
kernel sees to that); `pid` in cluster.json is its holder.  A supervisor that was killed leaves its
node running; whoever comes next, `paas dev` or `paas down`, ends that node first.

It has no event loop and imports little: it lives as long as the cluster and should cost nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paas import __version__
from paas.base import locks
from paas.base.errors import PlatformError
from paas.cli import limits, place
from paas.node.settings import runtime_of, short_name
from paas.real.kernel_orphans import adopt_orphans, reap_orphans

READY_FD_VARIABLE = "PAAS_READY_FD"
_LOG = "agents/node.log"
_WORKED = "agents/has-worked"


def environment() -> dict[str, str]:
    """The environment of our own programs: they find this very package wherever it lies."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if not root.endswith(("site-packages", "dist-packages")) and root not in paths:
        paths.insert(0, root)
    known = dict(os.environ)
    if paths:
        known["PYTHONPATH"] = os.pathsep.join(paths)
    return known


def agent_command(role: str, state: Path) -> list[str]:
    return [sys.executable, "-m", "paas", role, "--state", str(state)]


class Supervisor:
    """Keeps one node controller alive until SIGTERM or SIGINT."""

    def __init__(
        self, state: Path, *, command: Callable[[str, Path], list[str]] = agent_command
    ) -> None:
        self._state = state
        self._command = command
        self._node: subprocess.Popen[bytes] | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._child_read, self._child_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._lock = -1

    def run(self, on_ready: Callable[[], None]) -> None:
        """Until asked to stop.  Raises PlatformError if the node cannot start or dies too often."""
        prepare(self._state)
        self._lock = take_lock(self._state)
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._on_child)
        adopt_orphans()
        try:
            end_orphan(self._state, signal.SIGKILL)
            self._supervise(on_ready)
        finally:
            self._end()
            for number, handler in previous.items():
                signal.signal(number, handler)
            pipes = (self._wake_read, self._wake_write, self._child_read, self._child_write)
            for descriptor in (*pipes, self._lock):
                os.close(descriptor)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True
        os.write(self._wake_write, b"x")

    def _on_child(self, _number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._child_write, b"x")

    def _asked(self) -> bool:
        return self._stopping

    def _supervise(self, on_ready: Callable[[], None]) -> None:
        deaths: deque[float] = deque()
        announced = False
        while not self._stopping:
            error = self._start()
            if self._asked():
                return
            if error and not announced and not self._has_worked():
                raise PlatformError("failed", error, hint=f"see: {self._state / _LOG}")
            if not error and not announced:
                announced = True
                self._keep_in_mind()
                on_ready()
            if not error:
                self._wait(None)
            if self._asked():
                return
            self._kill()
            now = time.monotonic()
            deaths.append(now)
            while deaths[0] < now - limits.RESTARTS_WITHIN_S:
                deaths.popleft()
            if len(deaths) > limits.RESTARTS_MAX:
                span = f"{limits.RESTARTS_WITHIN_S:.0f} s"
                text = f"the node controller died {len(deaths)} times in {span}"
                raise PlatformError("failed", text, hint=f"see: {self._state / _LOG}")
            # At once for the first time: the components' lease has not long to run.
            first = limits.RESTART_DELAY_S_FIRST if len(deaths) > 1 else 0.0
            delay = min(first * 2 ** (len(deaths) - 2), limits.RESTART_DELAY_S_MAX)
            say(f"the node controller ended{_why(error)}; starting it again in {delay:g} s")
            self._pause(delay)

    def _has_worked(self) -> bool:
        """Is this one node of several that was ready before?  Then it may only lack the others."""
        return (self._state / _WORKED).exists()

    def _keep_in_mind(self) -> None:
        if (self._state / place.NODE_FILE).exists():
            (self._state / _WORKED).touch()

    def _start(self) -> str:
        """Start the node and wait until it is ready; what went wrong, or nothing."""
        rotate(self._state / _LOG)
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        try:
            with open(self._state / _LOG, "ab") as log:
                self._node = subprocess.Popen(
                    self._command("node", self._state),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[ready_write],
                    env={**environment(), READY_FD_VARIABLE: str(ready_write)},
                    start_new_session=True,
                )
        finally:
            os.close(ready_write)
        write_cluster(self._state, pid=os.getpid(), node_pid=self._node.pid)
        try:
            said = self._read_ready(ready_read)
        finally:
            os.close(ready_read)
        if said == "ready" or self._stopping:
            return ""
        self._wait(limits.RESTART_DELAY_S_FIRST)
        return said.removeprefix("error:").strip() or _last_words(self._state / _LOG)

    def _read_ready(self, descriptor: int) -> str:
        """The first line that the node says, or nothing when it ends or takes too long."""
        until = time.monotonic() + limits.READY_TIMEOUT_S
        said = b""
        while b"\n" not in said and not self._stopping:
            left = until - time.monotonic()
            if left <= 0:
                return f"error: not ready within {limits.READY_TIMEOUT_S:.0f} s"
            found, _, _ = select.select([descriptor, self._wake_read], [], [], left)
            if descriptor in found:
                data = os.read(descriptor, 4096)
                if not data:
                    break
                said += data
        return said.partition(b"\n")[0].decode("utf-8", "replace").strip()

    def _wait(self, timeout_s: float | None) -> bool:
        """Until the node ends (True), the time is over, or we are asked to stop."""
        assert self._node is not None
        if self._node.poll() is not None:
            return True
        descriptor = os.pidfd_open(self._node.pid)
        try:
            until = None if timeout_s is None else time.monotonic() + timeout_s
            while not self._stopping:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    break
                watched = [descriptor, self._wake_read, self._child_read]
                found, _, _ = select.select(watched, [], [], left)
                if self._child_read in found:
                    os.read(self._child_read, 4_096)
                    reap_orphans({self._node.pid})
                if descriptor in found:
                    break
        finally:
            os.close(descriptor)
        return self._node.poll() is not None

    def _pause(self, delay_s: float) -> None:
        select.select([self._wake_read], [], [], delay_s)

    def _kill(self) -> None:
        if self._node is not None and self._node.poll() is None:
            self._node.kill()
        if self._node is not None:
            self._node.wait()

    def _end(self) -> None:
        """End the node and remove what it left; the state stays.  Also after a failure."""
        node, self._node = self._node, None
        clean = node is None
        if node is not None:
            if node.poll() is None:
                node.terminate()
            try:
                _reap_until_end(node, limits.STOP_TIMEOUT_S)
                clean = node.returncode == 0
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        if not clean:
            cleanup(self._state, self._command)
        write_cluster(self._state, pid=None, node_pid=None)


def runtime_directory(state: Path) -> str:
    """Where the sockets of the node with this state directory are."""
    return runtime_of(os.path.realpath(state))


def digits(state: Path) -> str:
    """Eight digits that tell this state directory from others on the machine."""
    return short_name(os.path.realpath(state))


def prepare(state: Path) -> None:
    """The state directory, and what says that it is one; raises `invalid` if it cannot be."""
    try:
        # The agents' users pass through to their own directories but cannot list this one.
        state.mkdir(parents=True, exist_ok=True, mode=0o711)
        state.chmod(0o711)
        (state / "agents").mkdir(exist_ok=True, mode=0o700)
    except OSError as exc:
        raise PlatformError("invalid", f"--state {state}: {exc.strerror}", field="state") from None


def rotate(log: Path) -> None:
    """Keep a log bounded over many starts."""
    if log.exists() and log.stat().st_size > limits.LOG_BYTES_MAX:
        log.replace(log.with_name(f"{log.name}.1"))


def take_lock(state: Path) -> int:
    """One supervisor a state directory; raises `conflict` naming the other's pid."""
    try:
        return locks.take(state / place.LOCK_FILE)
    except BlockingIOError:
        cluster = place.read_cluster(state)
        pid = cluster.pid if cluster else None
        raise PlatformError(
            "conflict",
            f"a cluster with its state in {state} runs already (pid {pid or 'unknown'})",
            hint=f"end it: paas down --state {state}",
            pid=pid,
        ) from None


def write_cluster(state: Path, *, pid: int | None, node_pid: int | None, **more: object) -> None:
    """Say in cluster.json who runs; name and other facts, unless given, stay what they were.

    Of process 1 of a machine the number says nothing outside, where it is somebody else's.
    """
    cluster = place.read_cluster(state)
    facts: dict[str, Any] = dict(cluster.facts) if cluster else {}
    facts.update(more)
    real = os.path.realpath(state)
    facts.setdefault("name", f"dev-{short_name(real)}")
    if (state / place.MACHINE_FILE).exists():
        pid = node_pid = None
    facts.update(
        runtime=runtime_directory(state),
        pid=pid,
        node_pid=node_pid,
        development=True,
        version=__version__,
    )
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    place.write_whole(state / place.CLUSTER_FILE, text, 0o644)


def end_orphan(state: Path, number: signal.Signals) -> bool:
    """End the node of a supervisor that was killed; was there one?"""
    cluster = place.read_cluster(state)
    pid = cluster.facts.get("node_pid") if cluster else None
    if not isinstance(pid, int) or not _is_node(pid, state):
        return False
    descriptor = os.pidfd_open(pid)
    try:
        if not _is_node(pid, state):
            return False
        signal.pidfd_send_signal(descriptor, number)
        found, _, _ = select.select([descriptor], [], [], limits.STOP_TIMEOUT_S)
        if not found:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], limits.STOP_TIMEOUT_S)
    finally:
        os.close(descriptor)
    return True


def _is_node(pid: int, state: Path) -> bool:
    """Is this process that directory's node controller, or did somebody else get its number?"""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"node" in words and str(state).encode() in words


def cleanup(state: Path, command: Callable[[str, Path], list[str]] = agent_command) -> None:
    """Remove what is left of the node in the kernel; raises `failed` when something stays."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command("cleanup", state),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment(),
        )
        try:
            _reap_until_end(process, limits.CLEANUP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise PlatformError("failed", "removing what the node left took too long") from None
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode:
        status = f"status {process.returncode}"
        text = said[-1].removeprefix("error:").strip() if said else status
        raise PlatformError(
            "failed", f"something of the node is left: {text}", hint="run again: paas down"
        )


def _reap_until_end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Until it has ended; raises TimeoutExpired.

    What a killed node started are our children by now, and are being ended by this process: their
    control groups cannot be removed, and it waits, until somebody has reaped them.
    """
    until = time.monotonic() + timeout_s
    while True:
        reap_orphans({process.pid})
        try:
            process.wait(limits.REAP_PERIOD_S)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until:
                raise


def say(text: str) -> None:
    """A line for the supervisor's log, or for the terminal it runs in."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _why(error: str) -> str:
    return f" ({error})" if error else ""


def _last_words(log: Path) -> str:
    """The end of a log, for an error message."""
    try:
        lines = log.read_bytes()[-limits.LOG_TAIL_BYTES :].decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    found = [line for line in lines if line.strip()]
    return (
        f"the node controller ended: {found[-1].strip()}" if found else "the node controller ended"
    )


def main(state: str, ready_fd: int) -> int:
    """A supervisor in the background; says "ready" or the error as JSON on `ready_fd`."""

    def answer(value: dict[str, Any]) -> None:
        nonlocal ready_fd
        if ready_fd >= 0:
            os.write(ready_fd, json.dumps(value).encode() + b"\n")
            os.close(ready_fd)
            ready_fd = -1

    try:
        Supervisor(Path(state)).run(lambda: answer({"ready": True}))
    except PlatformError as exc:
        say(f"error: {exc}")
        answer(exc.to_rpc())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
