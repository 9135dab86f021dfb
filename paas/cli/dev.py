"""`paas dev`: a development cluster on this machine, here or in the background (io)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.cli import limits, place, supervisor
from paas.cli.session import Session


def dev(session: Session, *, nodes: int | None, detach: bool, demo: str | None) -> int:
    """Print `ready` once components can be created.

    Without a number of nodes there are as many as the state directory has, or one.
    """
    if nodes is not None and not 1 <= nodes <= limits.NODES_MAX:
        raise PlatformError(
            "invalid",
            f"--nodes: expected 1 to {limits.NODES_MAX}, not {nodes}",
            field="nodes",
        )
    if os.geteuid() != 0:
        raise PlatformError(
            "unsupported",
            f"user {os.geteuid()} is not root, and containers need namespaces, mounts and links",
            hint="run it as root: sudo paas dev   what else is missing: paas doctor",
        )
    state = Path(os.path.realpath(session.state))
    place.refuse_machine(state)
    known = place.read_cluster(state)
    if (nodes or 1) > 1 or (known is not None and known.nodes):
        return _several(session, state, nodes, detach, demo)
    return _detached(session, state, demo) if detach else _here(session, state, demo)


def _several(
    session: Session, state: Path, nodes: int | None, detach: bool, demo: str | None
) -> int:
    """The machines are daemons: in the foreground this only waits, and ends them on Ctrl-C."""
    from paas.cli.fleet import Fleet, follow, lay_out

    started = time.monotonic()
    fleet = Fleet(lay_out(state, nodes), report=session.output.note)
    # SIGTERM ends this as Ctrl-C does: whatever was started is ended, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fleet.start()
    announce(session, state, time.monotonic() - started)
    if detach:
        return _demonstrate(session, demo)
    try:
        session.output.note("stop: Ctrl-C")
        _demonstrate_beside(state, demo)
        follow(fleet)
        # Somebody else has ended the machines, and perhaps is still clearing up.
        with contextlib.suppress(PlatformError):
            fleet.end()
    except KeyboardInterrupt:
        fleet.end()
    session.output.note("ended; nothing runs any more, the state is kept")
    return Exit.DONE


def _demonstrate(session: Session, demo: str | None) -> int:
    if demo:
        from paas.cli.demo import demo as run_demo

        run_demo(session, name=demo)
    return Exit.DONE


def _demonstrate_beside(state: Path, demo: str | None) -> None:
    """A process of its own: this one goes on to watch and to hear Ctrl-C."""
    if demo:
        words = [sys.executable, "-m", "paas.cli", "--state", str(state), "demo", demo]
        subprocess.Popen(words, env=supervisor.environment(), stdin=subprocess.DEVNULL)


def _here(session: Session, state: Path, demo: str | None) -> int:
    started = time.monotonic()

    def on_ready() -> None:
        announce(session, state, time.monotonic() - started)
        session.output.note("stop: Ctrl-C")
        _demonstrate_beside(state, demo)

    watcher = supervisor.Supervisor(state)
    watcher.run(on_ready)
    session.output.note("ended; nothing runs any more, the state is kept")
    return Exit.DONE


def _detached(session: Session, state: Path, demo: str | None) -> int:
    started = time.monotonic()
    start_detached(state)
    announce(session, state, time.monotonic() - started)
    return _demonstrate(session, demo)


def start_detached(state: Path) -> None:
    """A supervisor in the background; returns when its node is ready."""
    supervisor.prepare(state)
    supervisor.rotate(state / place.LOG_FILE)
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    with open(state / place.LOG_FILE, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "paas.cli.supervisor", str(state), str(ready_write)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[ready_write],
            env=supervisor.environment(),
            start_new_session=True,
            cwd="/",
        )
    os.close(ready_write)
    try:
        _await_ready(process, ready_read, state)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        os.close(ready_read)


def _await_ready(process: subprocess.Popen[bytes], descriptor: int, state: Path) -> None:
    """Until the supervisor says that it is ready; raises what it says instead."""
    until = time.monotonic() + limits.READY_TIMEOUT_S + limits.STOP_TIMEOUT_S
    said = b""
    while b"\n" not in said:
        found, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        data = os.read(descriptor, 65536) if found else b""
        if not data:
            break
        said += data
    answer: dict[str, Any] = {}
    if b"\n" in said:
        answer = json.loads(said)
    if answer.get("ready"):
        return
    if answer:
        raise PlatformError.from_rpc(answer)
    raise PlatformError(
        "failed",
        "the supervisor ended before the cluster was ready",
        hint=f"see: {state / place.LOG_FILE}",
    )


def announce(session: Session, state: Path, took_s: float) -> None:
    """Facts beside the result on standard error; the result is the one word `ready`."""
    cluster = place.require_cluster(state)
    kind = f"{len(cluster.nodes)}-node" if cluster.nodes else "one-node"
    session.output.note(f"{kind} cluster {cluster.name} in {took_s:.1f} s, state in {state}")
    value = {
        "ready": True,
        "cluster": cluster.name,
        "state": str(state),
        "runtime": cluster.runtime,
        "pid": cluster.pid,
        "seconds": round(took_s, 3),
    }
    if cluster.nodes:
        value["nodes"] = list(cluster.nodes)
    session.output.value(value, "ready", ["ready"])
    session.output.stdout.flush()
