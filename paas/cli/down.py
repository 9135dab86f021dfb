"""`paas down`: end a development cluster and leave nothing that runs (io)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.cli import limits, place, supervisor
from paas.cli.session import Session

POLL_S = 0.02


def down(session: Session, *, purge: bool, yes: bool, dry_run: bool) -> int:
    """Safe to repeat: a cluster that does not run is ended already."""
    state = Path(os.path.realpath(session.state))
    place.refuse_machine(state)
    cluster = place.read_cluster(state)
    runs = cluster is not None and place.running(state)
    if dry_run:
        value = {"would": "down", "state": str(state), "running": runs, "purge": purge}
        also = f" and remove {state}" if purge and cluster else ""
        session.output.value(value, f"would end what runs of {state}{also}")
        return Exit.DONE
    if cluster is None:
        session.output.note(f"no cluster has its state in {state}: nothing to end")
        session.output.value({"state": str(state), "running": False}, "down", ["down"])
        return Exit.DONE
    if not cluster.development:
        raise PlatformError(
            "refused",
            f"{state} is not the state of a development cluster",
            hint="end the node with: systemctl stop paas-node",
        )
    if purge and not session.confirmed(f"This removes {state}", cluster.name, yes):
        return Exit.FAILED
    started = time.monotonic()
    if cluster.nodes:
        from paas.cli.fleet import Fleet

        Fleet(cluster).end()
    else:
        end(state, cluster)
    if purge:
        shutil.rmtree(state)
    took = time.monotonic() - started
    value = {"state": str(state), "running": False, "was_running": runs, "purged": purge}
    session.output.note(
        f"{cluster.name} ended in {took:.1f} s{'; its state is removed' if purge else ''}"
    )
    session.output.value(value, "down", ["down"])
    return Exit.DONE


def end(state: Path, cluster: place.Cluster) -> None:
    """Ask the supervisor; then make sure, whatever it did."""
    if place.running(state) and cluster.pid is not None:
        if os.geteuid() != 0 and not os.access(f"/proc/{cluster.pid}", os.W_OK):
            raise PlatformError("denied", f"process {cluster.pid} is not yours to end")
        _stop(cluster.pid, state)
    supervisor.end_orphan(state, signal.SIGTERM)
    supervisor.cleanup(state)
    supervisor.write_cluster(state, pid=None, node_pid=None)
    left = [p for p in (cluster.runtime, cluster.socket) if os.path.exists(p)]
    if left or place.running(state):
        raise PlatformError(
            "failed",
            f"something of the cluster is left: {', '.join(left) or 'a supervisor'}",
            hint=f"run again: paas down --state {state}",
        )


def _stop(pid: int, state: Path) -> None:
    """SIGTERM to the holder of the lock, SIGKILL when its time is over."""
    for number, limit_s in ((signal.SIGTERM, limits.DOWN_TIMEOUT_S), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if not place.running(state):
                return
            time.sleep(POLL_S)
