"""Faults of disks: power cuts and kills in the middle of an operation, no room, failed syncs, slow
syncs, flipped bits.

A flipped bit strikes a disk at rest, behind the back of a replica that had ended (see
`paas.raft.journal` for what it promises then), of at most one replica at a time: what a majority
has lost nobody can give back.
"""

from __future__ import annotations

from collections.abc import Callable

from paas.raft.journal import covered_bytes
from paas.sim.consensus.arena import Arena
from paas.sim.consensus.members import Crash, Member


class DiskFaults:
    """See the module's text."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._full: list[Member] = []
        self._sync_s = arena.random.choice((0.0, 0.0, 0.004, 0.03))

    def classes(self) -> dict[str, Callable[[], bool]]:
        return {
            "power-cut-in-operation": self._power_cut,
            "kill-in-operation": self._kill,
            "crash-after-snapshot": self._after_snapshot,
            "torn-write": self._torn_write,
            "sync-fails": self._sync_fails,
            "disk-full": self._disk_full,
        }

    def draw_sync_s(self) -> float:
        return self._sync_s

    def end(self) -> None:
        for member in self._full:
            self._room(member)
        for member in self._arena.members.values():
            member.disk.on_operation = None
            member.disk.fail_next_sync = None
            member.disk.tear_next_write = None
            member.dies_after_snapshot = False

    def _victim(self) -> Member | None:
        living = self._arena.living()
        return self._arena.random.choice(living) if living else None

    def arm(self, member: Member, countdown: int, *, power: bool = True) -> None:
        """After so many operations of the disk this life ends, before the next one."""
        left = countdown

        def operation(_kind: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash(power=power)

        member.disk.on_operation = operation

    def _armed(self, *, power: bool) -> bool:
        member = self._victim()
        if member is None:
            return False
        if self._arena.random.random() < 0.4:
            member.replica.request_snapshot()  # so that some of it is a snapshot being written
        self.arm(member, self._arena.random.randrange(10), power=power)
        return True

    def _power_cut(self) -> bool:
        return self._armed(power=True)

    def _kill(self) -> bool:
        return self._armed(power=False)

    def _after_snapshot(self) -> bool:
        """Dies when its next snapshot is in place and the journal not yet shortened."""
        member = self._victim()
        if member is None:
            return False
        member.replica.request_snapshot()
        member.dies_after_snapshot = True
        return True

    def _torn_write(self) -> bool:
        """A write stores a part and fails: the process must end."""
        member = self._victim()
        if member is None:
            return False
        member.disk.tear_next_write = self._arena.random.randrange(60)
        return True

    def _sync_fails(self) -> bool:
        member = self._victim()
        if member is None:
            return False
        member.disk.fail_next_sync = self._arena.random.randrange
        return True

    def _disk_full(self) -> bool:
        member = self._victim()
        if member is None or member in self._full:
            return False
        self._full.append(member)
        member.disk.capacity_bytes -= member.disk.free_bytes()
        self._arena.after(0.5 + self._arena.random.expovariate(1 / 6), lambda: self._room(member))
        return True

    def flip(self, member: Member) -> bool:
        """One bit of a file; in the journal a covered one, so not in the last batch of a kill."""
        disk, chance = member.disk, self._arena.random
        paths = [path for path in ("journal", "snapshot") if disk.exists(path)]
        if not paths:
            return False
        path = chance.choice(paths)
        content = disk.content(path)
        used = covered_bytes(content) if path == "journal" else len(content)
        if not used:
            return False
        disk.flip_bit(path, chance.randrange(8 * used))
        self._arena.count(f"bit-flip-{path}")
        return True

    def _room(self, member: Member) -> None:
        member.disk.capacity_bytes = 1 << 40
        if member in self._full:
            self._full.remove(member)
