"""What other replicas sent: order, bounds, room, and commands kept while the leadership moves."""

from __future__ import annotations

import pytest

from paas.base.errors import RemoteError
from paas.raft import limits, messages
from paas.raft.inbox import Inbox
from paas.raft.messages import AppendEntries, ApplyCommand, ApplyResponse, Message, NextIndex


class Replica:
    """What an inbox needs of one; remembers what it got."""

    is_leader = True
    term, last_index, commit_index = 1, 2, 2

    def __init__(self) -> None:
        self.reads = self.returning = self
        self.under_way = self.has_guests = False
        self.got: list[object] = []
        self.denied: list[Message] = []
        self.epochs: dict[str, int] = {}

    def connected(self, peer: str, epoch: int) -> None:
        self.epochs[peer] = epoch
        self.got.append(("up", peer))

    def disconnected(self, peer: str, epoch: int) -> None:
        self.got.append(("down", peer))

    def is_live(self, peer: str, epoch: int) -> bool:
        return self.epochs.get(peer) == epoch

    def is_member(self, peer: str) -> bool:
        return peer != "stranger"

    def needs_bytes(self, payload: bytes) -> int:
        return len(payload)

    def receive(self, peer: str, message: Message) -> None:
        self.got.append(message)

    def deny(self, peer: str, message: Message) -> None:
        self.denied.append(message)


class World:
    def __init__(self) -> None:
        self.replica = Replica()
        self.room = True
        self.asked: list[int] = []
        self.holding = False
        self.inbox = Inbox(self.replica, self._room, lambda: self.holding)  # type: ignore[arg-type]
        self.inbox.note_link("b", 1, up=True)

    async def _room(self, count: int) -> bool:
        self.asked.append(count)
        return self.room

    def note(self, *sent: Message, peer: str = "b", epoch: int = 1) -> None:
        for message in sent:
            self.inbox.note(peer, epoch, messages.encode(message))


@pytest.fixture
def world() -> World:
    return World()


COMMAND = ApplyCommand(b"\0abc", 1)
ANSWER = NextIndex(3, False, True, 1, 1)
APPEND = AppendEntries(1, 0, 1, 0, [(b"\0x", 2, 1)], 1)


async def test_everything_is_taken_in_order(world: World) -> None:
    world.note(ANSWER, COMMAND, APPEND)
    world.inbox.note_link("b", 1, up=False)
    await world.inbox.receive()
    assert world.replica.got == [("up", "b"), ANSWER, COMMAND, APPEND, ("down", "b")]
    assert len(world.inbox) == 0


async def test_messages_of_an_older_connection_are_dropped_and_counted(world: World) -> None:
    world.note(ANSWER)
    world.inbox.note_link("b", 2, up=True)
    world.note(COMMAND, epoch=1)
    await world.inbox.receive()
    assert world.replica.got == [("up", "b"), ANSWER, ("up", "b")]
    assert world.inbox.dropped == 1


def test_what_is_no_message_is_the_peers_error_at_once(world: World) -> None:
    with pytest.raises(RemoteError):
        world.inbox.note("b", 1, b"\xff\x00")


def test_only_an_answer_that_can_wait_needs_no_step(world: World) -> None:
    def note(message: Message) -> bool:
        return world.inbox.note("b", 1, messages.encode(message))

    assert note(APPEND)
    assert note(COMMAND)
    assert not note(ANSWER)
    world.replica.has_guests = True
    assert note(ANSWER)
    world.replica.has_guests = False
    world.holding = True  # the leadership is being handed over
    assert note(ANSWER)


async def test_more_than_the_inbox_holds_is_dropped_and_counted(world: World) -> None:
    world.note(*[ANSWER] * (limits.INBOX_MESSAGES_MAX + 10))
    world.inbox.note_link("b", 1, up=False)  # news of connections are never dropped
    assert world.inbox.dropped == 11
    await world.inbox.receive()
    assert world.replica.got[-1] == ("down", "b")


async def test_answers_to_appends_may_be_taken_first_but_not_past_news_of_their_connection(
    world: World,
) -> None:
    await world.inbox.receive()
    world.note(COMMAND, ANSWER)
    world.inbox.note_link("b", 2, up=True)
    world.note(ANSWER, epoch=2)
    world.inbox.acknowledgements()
    assert world.replica.got == [("up", "b"), ANSWER]
    await world.inbox.receive()
    assert world.replica.got[2:] == [COMMAND, ("up", "b"), ANSWER]


async def test_without_room_an_append_is_not_taken_and_a_command_denied(world: World) -> None:
    world.room = False
    world.note(APPEND, COMMAND, ApplyResponse(1, None, 2, 1))
    await world.inbox.receive()
    assert world.replica.got == [("up", "b"), ApplyResponse(1, None, 2, 1)]
    assert world.replica.denied == [COMMAND]


async def test_commands_of_one_step_add_up(world: World) -> None:
    world.note(COMMAND, COMMAND)
    await world.inbox.receive()
    assert world.asked == [4, 8]
    assert world.inbox.forwarded_bytes == 8
    await world.inbox.receive()
    assert world.inbox.forwarded_bytes == 0


async def test_commands_are_denied_by_who_does_not_lead_and_to_who_is_no_member(
    world: World,
) -> None:
    world.inbox.note_link("stranger", 1, up=True)
    world.note(COMMAND, peer="stranger")
    await world.inbox.receive()
    world.replica.is_leader = False
    world.note(COMMAND)
    await world.inbox.receive()
    assert world.replica.denied == [COMMAND, COMMAND]


@pytest.mark.parametrize("leads", [True, False])
async def test_commands_wait_while_the_leadership_is_handed_over(world: World, leads: bool) -> None:
    world.holding = True
    world.note(COMMAND)
    await world.inbox.receive()
    assert (COMMAND in world.replica.got, world.replica.denied) == (False, [])
    world.holding, world.replica.is_leader = False, leads
    await world.inbox.receive()
    assert (COMMAND in world.replica.got, COMMAND in world.replica.denied) == (leads, not leads)
