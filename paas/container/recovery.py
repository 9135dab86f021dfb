"""After a restart of the controller: what the journal says against what the kernel has.

Pure.  The kernel is right.  A record tells what to look for; what is found without a record belongs
to nobody and is removed.

    record says   pid 1 alive      decision
    running       yes              adopt it
    running       no               it ended while nobody looked: report it, once
    exited        -                keep it for its destruction; it has been reported
    preparing     either           destroy it: nobody was told that it exists
    destroying    either           go on destroying
    other boot    -                destroy what is left of it on disk
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from paas.container.journal import Record


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What is there."""

    boot: str
    alive: Collection[str]
    """Components whose recorded pid 1 runs: same number and same start time."""
    groups: Collection[str]
    links: Collection[str]
    directories: Collection[str]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to do with it."""

    adopt: list[Record] = field(default_factory=list)
    report: list[Record] = field(default_factory=list)
    keep: list[Record] = field(default_factory=list)
    destroy: list[Record] = field(default_factory=list)
    stray_components: list[str] = field(default_factory=list)
    """Names of groups or directories without a record."""
    stray_links: list[str] = field(default_factory=list)


def decide(records: Sequence[Record], damaged: Sequence[str], facts: KernelFacts) -> Decisions:
    """One decision for everything that is there or recorded."""
    decisions = Decisions()
    for record in sorted(records, key=lambda r: r.component):
        if record.boot != facts.boot:
            decisions.destroy.append(record)
        elif record.phase == "running":
            alive = record.component in facts.alive
            (decisions.adopt if alive else decisions.report).append(record)
        elif record.phase == "exited":
            decisions.keep.append(record)
        else:
            decisions.destroy.append(record)
    known = {record.component for record in records}
    found = set(facts.groups) | set(facts.directories) | set(damaged)
    decisions.stray_components.extend(sorted(found - known))
    owned = {r.link for r in records if r.link is not None and r.boot == facts.boot}
    decisions.stray_links.extend(sorted(set(facts.links) - owned))
    return decisions
