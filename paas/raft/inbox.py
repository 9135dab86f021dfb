"""What came from other replicas and waits for the next step.

    transport ── note ──> queue ── receive ──> replica.receive          all, in order, once a step
                            └───── acknowledgements ──> replica.receive  while the disk was written

What does not decode raises RemoteError at once: the transport ends the connection.  A message that
needs room in the journal is taken only if there is room: a follower without room does not
acknowledge, and the leader sends again; a command that another replica handed on is denied, and
proposed again by who waits for it.  While the leadership is being handed over such commands are
kept, and then taken or denied (leading.py).

What the leader hears from followers that have everything is no reason for a step of its own: it
waits for the next one, which the heartbeat brings at the latest.

The queue is bounded; more is dropped and counted, which the protocol allows.  `room` waits for the
disk; nothing else does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from paas.raft import limits, messages
from paas.raft.messages import AppendEntries, ApplyCommand, Message, NextIndex
from paas.raft.syncobj import Replica

_Item = tuple[str, int, Message | None, bool]


class Inbox:
    """See the module's text."""

    def __init__(
        self,
        replica: Replica,
        room: Callable[[int], Awaitable[bool]],
        holding: Callable[[], bool],
    ) -> None:
        self._replica = replica
        self._room = room
        self._holding = holding
        self.waiting: deque[_Item] = deque()
        """Messages and news of connections, for the next step."""

        self._held: list[tuple[str, ApplyCommand]] = []
        self.dropped = 0
        self.forwarded_bytes = 0
        """Room for what this step took from others, which is not in the journal yet."""

    def __len__(self) -> int:
        return len(self.waiting)

    def note(self, peer: str, epoch: int, data: bytes) -> bool:
        """A message; does it need a step now?  Raises RemoteError."""
        message = self.put(peer, epoch, data)
        return message is None or self._holding() or not can_wait(self._replica, message)

    def put(self, peer: str, epoch: int, data: bytes) -> Message | None:
        """The message, or None when there was no room for it.  Raises RemoteError."""
        if len(self.waiting) >= limits.INBOX_MESSAGES_MAX:
            self.dropped += 1
            return None
        message = messages.decode(data)
        self.waiting.append((peer, epoch, message, True))
        return message

    def note_link(self, peer: str, epoch: int, *, up: bool) -> None:
        """News of a connection."""
        self.waiting.append((peer, epoch, None, up))

    async def receive(self) -> None:
        """Give the replica everything that is there now."""
        replica = self._replica
        self.forwarded_bytes = 0
        if self._held and not self._holding():
            held, self._held = self._held, []
            for peer, command in held:
                await self._forwarded(peer, command)
        for _ in range(len(self.waiting)):
            peer, epoch, message, up = self.waiting.popleft()
            if message is None:
                (replica.connected if up else replica.disconnected)(peer, epoch)
            elif not replica.is_live(peer, epoch):
                self.dropped += 1
            elif isinstance(message, ApplyCommand):
                await self._forwarded(peer, message)
            else:
                needed = _needed(message) if isinstance(message, AppendEntries) else 0
                if not needed or await self._room(needed):
                    replica.receive(peer, message)

    def acknowledgements(self) -> None:
        """Take the answers to appends that are there.

        They may overtake other messages of the same peer: rules T1 and T2 make that harmless.
        """
        if not self.waiting:
            return
        kept: deque[_Item] = deque()
        changed: dict[str, None] = {}  # connections: what comes behind such news waits for it
        for item in self.waiting:
            peer, epoch, message, _ = item
            if message is None:
                changed[peer] = None
            if peer in changed or not isinstance(message, NextIndex):
                kept.append(item)
            elif self._replica.is_live(peer, epoch):
                self._replica.receive(peer, message)
        self.waiting = kept

    async def _forwarded(self, peer: str, message: ApplyCommand) -> None:
        """A command that another replica handed on."""
        replica = self._replica
        if self._holding() and len(self._held) < limits.IN_FLIGHT_MAX:
            self._held.append((peer, message))
            return
        needed = replica.needs_bytes(message.command)
        able = replica.is_leader and replica.is_member(peer) and not self._holding()
        if not able or not await self._room(self.forwarded_bytes + needed):
            replica.deny(peer, message)
            return
        replica.receive(peer, message)
        self.forwarded_bytes += needed


def can_wait(leader: Replica, message: Message) -> bool:
    """Has this follower all that there is, and does nobody wait to know that?"""
    return (
        isinstance(message, NextIndex)
        and message.success
        and not message.reset
        and leader.is_leader
        and message.term == leader.term
        and message.next_index > leader.last_index == leader.commit_index
        and not leader.reads.under_way
        and not leader.returning.has_guests
    )


def _needed(message: AppendEntries) -> int:
    """Space in the journal that a message may take."""
    if not message.entries:
        return 0
    return sum(Replica.needs_bytes(payload) for payload, _, _ in message.entries)
