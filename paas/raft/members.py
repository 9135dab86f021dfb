"""The members of a replica's log: who they are, how far they are, and when they may be changed.

Keeper K4: the library is given its nodes anew whenever another configuration comes into force,
because an entry was appended, cut off, or replaced by a snapshot (configuration.py says which).
Voters become its other nodes, observers its read-only ones, and the figures that it keeps for each
of them (next index, match index, when it answered) are made and dropped with them.

A change is taken only by a leader that has committed an entry of its own term and the change
before; it may add or remove one voter, never the leader itself; and a majority of the new voters
must be in touch now, for nothing could be committed afterwards, not even a way back.

The library's nodes are this package's `Peer`; its private attributes are reached through the host.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.raft import configuration
from paas.raft.adapters import Nodes
from paas.raft.configuration import Configuration, History
from paas.raft.engine import Engine, Peer
from paas.raft.reads import Reads
from paas.raft.returning import Returning
from paas.raft.settings import RaftSettings


class Follower(msgspec.Struct, frozen=True):
    """What the leader knows of another member."""

    match_index: int
    """Up to here its log is certainly ours."""

    heard_s: float
    """Seconds since it last answered (or since this replica leads, or it became a member)."""

    voter: bool
    connected: bool
    returned: bool = False
    """It lost its log and asks to be let in: as long as it votes it is as good as off."""


class Host(Protocol):
    """What members need of the replica they belong to."""

    node: str
    clock: Clock
    settings: RaftSettings
    returning: Returning
    reads: Reads
    _engine: Engine

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader(self) -> str | None: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    @property
    def own_term_committed(self) -> bool: ...

    def peer(self, name: str) -> Peer: ...

    def is_connected(self, name: str) -> bool: ...

    def _get(self, name: str) -> Any: ...

    def _set(self, name: str, value: Any) -> None: ...


class Members:
    """See the module's text."""

    def __init__(self, host: Host, history: History) -> None:
        self._host = host
        self._settled = False
        self.history = history

    # -- who they are ----------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The one in force."""
        latest = self.history.latest
        committed = latest.index <= self._host.commit_index
        return Configuration(latest.voters, latest.observers, latest.index, committed)

    @property
    def voters(self) -> tuple[str, ...]:
        return self.history.latest.voters

    @property
    def votes(self) -> bool:
        """Does this replica vote?"""
        return self._host.node in self.history.latest.voters and (self._settled or self._look())

    @property
    def alone(self) -> bool:
        """Does nobody else vote?"""
        voters = self.history.latest.voters
        if len(voters) != 1 or voters[0] != self._host.node:
            return False
        return self._settled or self._look()

    def _look(self) -> bool:
        """Once it is settled, it is for good."""
        self._settled = self._host.returning.settled
        return self._settled

    @property
    def others(self) -> bool:
        """Is there any other member, or may there be?"""
        latest = self.history.latest
        return latest.voters + latest.observers != (self._host.node,)

    def is_voter(self, name: str) -> bool:
        """Another voter, as the library counts them."""
        return self._host.peer(name) in self._host._engine._SyncObj__otherNodes

    def is_member(self, name: str) -> bool:
        """Does the log go to this replica?"""
        peer, library = self._host.peer(name), self._host._engine
        return peer in library._SyncObj__otherNodes or peer in library._SyncObj__readonlyNodes

    def reconfigure(self) -> None:
        """Give the library its nodes anew."""
        host, latest = self._host, self.history.latest
        voters, observers = self._nodes(latest.voters), self._nodes(latest.observers)
        everybody = voters | observers
        next_index, match_index = host._get("raftNextIndex"), host._get("raftMatchIndex")
        heard_s = host._get("lastResponseTime")
        for node in everybody:
            next_index.setdefault(node, host.last_index + 1)
            match_index.setdefault(node, 0)
            heard_s.setdefault(node, host.clock.monotonic_s())
        for known in (next_index, match_index, heard_s):
            for node in [node for node in known if node not in everybody]:
                del known[node]
        host._set("otherNodes", voters)
        host._set("readonlyNodes", observers)
        if self.alone:
            host._set("raftElectionDeadline", -math.inf)  # nobody to wait for

    def _nodes(self, names: Iterable[str]) -> Nodes:
        return Nodes(self._host.peer(name) for name in names if name != self._host.node)

    # -- how far they are ------------------------------------------------------------------------

    def followers(self) -> dict[str, Follower]:
        """On the leader: every other member, by name."""
        host, latest = self._host, self.history.latest
        if not host.is_leader:
            return {}
        match_index, heard_s = host._get("raftMatchIndex"), host._get("lastResponseTime")
        now_s = host.clock.monotonic_s()
        return {
            name: Follower(
                match_index=match_index[host.peer(name)],
                heard_s=max(0.0, now_s - heard_s[host.peer(name)]),
                voter=name in latest.voters,
                connected=host.is_connected(name),
                returned=host.returning.has_returned(name),
            )
            for name in latest.members
            if name != host.node
        }

    def quorum_heard_s(self) -> float:
        """On a leader: since when it has not heard of a majority."""
        needed = len(self.history.latest.voters) // 2
        if not needed:
            return self._host.clock.monotonic_s()
        library = self._host._engine
        heard_s = library._SyncObj__lastResponseTime
        times = sorted([heard_s[node] for node in library._SyncObj__otherNodes], reverse=True)
        return times[needed - 1] if len(times) >= needed else self._host.clock.monotonic_s()

    # -- changing them ---------------------------------------------------------------------------

    def change(self, voters: Iterable[str], observers: Iterable[str]) -> Configuration:
        """The configuration that may follow now; the one in force if it is the same.

        Raises `conflict`, `invalid`.
        """
        host, old = self._host, self.configuration
        new = configuration.make(voters, observers)
        if not host.is_leader:
            raise PlatformError("conflict", "only the leader changes who votes", leader=host.leader)
        if not old.committed:
            raise PlatformError("conflict", f"the change at {old.index} is still under way")
        if not host.own_term_committed:
            raise PlatformError("conflict", "this leader is too new: nothing is committed yet")
        configuration.check_change(old, new, host.node)
        if (old.voters, old.observers) == (new.voters, new.observers):
            return old
        missing = [name for name in new.voters if not self._in_touch(name)]
        if old.voters != new.voters and 2 * len(missing) >= len(new.voters):
            raise PlatformError(
                "conflict",
                "a majority of these voters would not be in touch",
                hint="bring them back first, or change something else",
                missing=missing,
            )
        return new

    def _in_touch(self, name: str) -> bool:
        host = self._host
        if name == host.node:
            return True
        if not self.is_member(name):
            return host.is_connected(name)
        # The library takes the moment of the election for an answer of everybody.
        heard_s = host._get("lastResponseTime").get(host.peer(name), -math.inf)
        recent = host.clock.monotonic_s() - heard_s < host.settings.leader_fallback_s
        return host.is_connected(name) and recent and host.reads.has_answered(name)
