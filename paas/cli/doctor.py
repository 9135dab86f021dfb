"""`paas doctor`: facts about this machine and the cluster, each fault with its cure (io).

A check that could not be made is a fault too, never silence.  Exit status 1 when something needed
is missing.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.cli import place, texts
from paas.cli.session import Session

PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked fact.  `needed` false: it works without, less well."""

    area: str
    name: str
    ok: bool
    detail: str
    cure: str = ""
    needed: bool = True

    @property
    def word(self) -> str:
        return "ok" if self.ok else ("failed" if self.needed else "warn")


def doctor(session: Session, *, leftovers: bool) -> int:
    """Print every check; in JSON `{"checks": [...]}`."""
    if leftovers:
        from paas.cli import leftovers as picture

        return picture.leftovers(session)
    findings = [*_machine(session.state), *_containers(), *_cluster(session)]
    output = session.output
    counts = {w: sum(f.word == w for f in findings) for w in ("ok", "warn", "failed")}
    lines = []
    for finding in findings:
        lines.append(f"{output.state(finding.word):<9} {finding.area}: {finding.detail}")
        if not finding.ok and finding.cure:
            lines.append(f"          cure: {finding.cure}")
    lines.append("  ".join(f"{word} {count}" for word, count in counts.items()))
    checks = [{**asdict(f), "result": f.word} for f in findings]
    output.value({"checks": checks, "counts": counts}, "\n".join(lines), [f.name for f in findings])
    return Exit.FAILED if counts["failed"] else Exit.DONE


def _machine(state: Path) -> list[Finding]:
    version = platform.python_version()
    findings = [
        Finding(
            "machine",
            "python",
            sys.version_info >= PYTHON_MIN,
            f"Python {version}",
            "install Python 3.11 or newer",
        )
    ]
    folder = next((p for p in (state, *state.parents) if p.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free
    findings.append(
        Finding(
            "machine",
            "space",
            free >= FREE_BYTES_MIN,
            f"{texts.size(free)}B free for {state}",
            f"free at least {texts.size(FREE_BYTES_MIN)}B there, or use --state DIR",
            needed=False,
        )
    )
    run = Path("/run")
    writable = os.access(run, os.W_OK)
    findings.append(
        Finding(
            "machine",
            "run",
            writable,
            "/run is writable" if writable else "/run is not writable",
            "run as root",
        )
    )
    return findings


def _containers() -> list[Finding]:
    """What the container controller says about this machine."""
    try:
        probe = importlib.import_module("paas.container.probe")
        checks = probe.probe()
    except (ImportError, OSError) as exc:
        return [
            Finding("containers", "probe", False, f"could not be checked: {exc}", "run as root")
        ]
    return [
        Finding("containers", c.name, c.ok, c.detail, c.cure, getattr(c, "needed", True))
        for c in checks
    ]


def _cluster(session: Session) -> list[Finding]:
    cluster = place.read_cluster(session.state)
    if cluster is None or not place.running(cluster.state):
        text = f"no cluster runs with its state in {session.state}"
        return [Finding("cluster", "running", True, text)]
    begun = time.monotonic()
    try:
        found = session.call("cluster.status", timeout_s=10.0)
    except PlatformError as exc:
        return [Finding("cluster", "hub", False, str(exc), exc.hint)]
    took_ms = (time.monotonic() - begun) * 1000
    findings = [Finding("cluster", "hub", True, f"{cluster.name} answers in {took_ms:.0f} ms")]
    for node in found["nodes"]:
        ready = node.get("state") in ("ready", "available")
        text = f"node {node.get('name')} is {node.get('state')}"
        findings.append(Finding("cluster", "node", ready, text, "see: paas nodes -o wide"))
    failed = found["components"].get("failed", 0)
    if failed:
        text = f"{failed} components have failed"
        findings.append(
            Finding(
                "cluster",
                "components",
                False,
                text,
                "see: paas ps --all -l state=failed",
                needed=False,
            )
        )
    return findings
