"""`paas dev`: a development cluster on this machine, here or in the background (io)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.cli import limits, place, supervisor
from paas.cli.session import Session


def dev(session: Session, *, nodes: int, detach: bool, demo: str | None) -> int:
    """Print `ready` once components can be created."""
    if nodes < 1:
        raise PlatformError("invalid", f"--nodes: expected at least 1, not {nodes}", field="nodes")
    if nodes > 1:
        raise PlatformError(
            "unsupported",
            f"--nodes {nodes}: this version runs one node only",
            hint="start one node: paas dev",
        )
    if os.geteuid() != 0:
        raise PlatformError(
            "unsupported",
            f"user {os.geteuid()} is not root, and containers need namespaces, mounts and links",
            hint="run it as root: sudo paas dev   what else is missing: paas doctor",
        )
    state = Path(os.path.realpath(session.state))
    return _detached(session, state, demo) if detach else _here(session, state, demo)


def _here(session: Session, state: Path, demo: str | None) -> int:
    started = time.monotonic()

    def on_ready() -> None:
        announce(session, state, time.monotonic() - started)
        session.output.note("stop: Ctrl-C")
        if demo:
            # A process of its own: this one goes on to watch the node and to hear Ctrl-C.
            words = [sys.executable, "-m", "paas.cli", "--state", str(state), "demo", demo]
            subprocess.Popen(words, env=supervisor.environment(), stdin=subprocess.DEVNULL)

    watcher = supervisor.Supervisor(state)
    watcher.run(on_ready)
    session.output.note("ended; nothing runs any more, the state is kept")
    return Exit.DONE


def _detached(session: Session, state: Path, demo: str | None) -> int:
    started = time.monotonic()
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
    announce(session, state, time.monotonic() - started)
    if demo:
        from paas.cli.demo import demo as run_demo

        run_demo(session, name=demo)
    return Exit.DONE


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
    session.output.note(f"one-node cluster {cluster.name} in {took_s:.1f} s, state in {state}")
    value = {
        "ready": True,
        "cluster": cluster.name,
        "state": str(state),
        "runtime": cluster.runtime,
        "pid": cluster.pid,
        "seconds": round(took_s, 3),
    }
    session.output.value(value, "ready", ["ready"])
    session.output.stdout.flush()
