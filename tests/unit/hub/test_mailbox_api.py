"""Mailboxes at the hub's face: casts come in, members get them, operators look and repair."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from paas.base.errors import PlatformError
from paas.harness.messages import INVOKE, Invoke, InvokeResult
from paas.hub import limits
from paas.hub import mailbox_messages as messages
from paas.hub.mailbox import MailboxState
from paas.hub.mailbox_api import IDS_MAX, POLICY, MailboxPart
from paas.hub.mailbox_keeper import Surroundings
from paas.hub.messages import CAST, Cast, CastResult
from paas.hub.state import GroupState
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine
from paas.rpc.dispatch import check_policy
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.hub_in_memory import Far, World, hub_world, settled
from paas.wire.registry import Method, decode

GROUP = "orders"


class Alone:
    """The ring of one node."""

    def primary(self, _number: int) -> str:
        return "n1"

    def epoch(self, _number: int) -> int:
        return 1


class MailboxLog:
    """Has the section alone; the world's own log has the groups."""

    def __init__(self, state: MailboxState) -> None:
        self._machine = Machine([state])
        self._index = 0
        self._subscribers: list[Callable[[int, Sequence[Any]], None]] = []
        self.trouble: PlatformError | None = None
        self.batches: list[int] = []

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        await trio.lowlevel.checkpoint()

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.lowlevel.checkpoint()
        if self.trouble is not None:
            raise self.trouble
        self.batches.append(len(getattr(command, "messages", ())))
        self._index += 1
        stamp = Stamp(self._index * 1_000, bytes(SEED_BYTES), "n1", self._index)
        applied = self._machine.apply(self._index, encode(command, stamp))
        for subscriber in self._subscribers:
            subscriber(self._index, applied.events)
        if applied.error is not None:
            raise applied.error
        return applied.result


class Post:
    """A world whose hub has mailboxes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = MailboxState()
        self.log = MailboxLog(self.state)
        self.groups: GroupState = world.hub._groups
        around = Surroundings(
            node="n1",
            state=self.state,
            log=self.log,
            deliveries=world.hub.router,
            may_run=lambda: True,
            on_trouble=lambda _group, _error: None,
        )
        self.part = MailboxPart(
            around,
            self.groups,
            Alone(),
            on_bug=lambda _where, bug: world.bugs.append(bug),
            staleness=lambda: None,
        )
        self.part.register(world.dispatcher)
        world.hub.router.postman = self.part.postman
        self.operator = world.operator()

    async def configure(self, **given: Any) -> messages.GroupInfo:
        params = messages.ConfigureGroup(group=GROUP, mailbox="durable", **given)
        info: messages.GroupInfo = await self.operator.call(messages.CONFIGURE_GROUP, params)
        return info

    async def cast(self, by: Far | None = None, **given: Any) -> CastResult:
        params = Cast(target=f"group:{GROUP}", operation="do", **given)
        result: CastResult = await (by or self.operator).call(CAST, params)
        return result

    async def info(self) -> messages.Mailbox:
        query = messages.GroupQuery(group=GROUP)
        (found,) = (await self.operator.call(messages.GROUP, query)).groups
        assert found.mailbox is not None
        box: messages.Mailbox = found.mailbox
        return box

    async def member(self, name: str, *answers: PlatformError) -> list[Invoke]:
        """A member of the group that answers these errors, then well; what came to it."""
        self.world.exists(name, groups=[GROUP])
        self.world.becomes(name, "available")
        far = await self.world.component(name)
        came: list[Invoke] = []
        left = list(answers)

        def on_request(peer: Peer, request: Request) -> None:
            assert request.method == INVOKE.name
            came.append(decode(request.params, Invoke))
            if left:
                peer.fail(request, left.pop(0))
            else:
                peer.reply(request, InvokeResult())

        far.peer.on_request = on_request
        return came


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with posting() as made:
        yield made


@asynccontextmanager
async def posting() -> AsyncIterator[Post]:
    async with hub_world() as world, trio.open_nursery() as nursery:
        made = Post(world)
        await nursery.start(made.part.run)
        yield made
        nursery.cancel_scope.cancel()


def test_every_method_has_a_policy_row() -> None:
    declared = {m.name for m in vars(messages).values() if isinstance(m, Method)}
    check_policy(declared, POLICY)


async def test_a_cast_to_a_mailbox_is_kept_and_told_by_its_id(post: Post) -> None:
    info = await post.configure()
    assert info.members == 0
    assert await post.cast(id="mine") == CastResult(accepted=1, message="mine")
    made = await post.cast()
    assert made.accepted == 1
    assert made.message not in ("mine", "", msgspec.UNSET)
    box = await post.info()
    assert (box.waiting, box.accepted, box.primary) == (2, 2, "n1")
    assert box.oldest > 0


async def test_a_member_gets_the_message_with_its_mark_and_its_answer_ends_it(post: Post) -> None:
    await post.configure()
    came = await post.member("m")
    await post.cast(id="x", inputs=msgspec.Raw(msgspec.msgpack.encode({"a": 1})))
    await settled()
    (invoke,) = came
    assert not isinstance(invoke.message, msgspec.UnsetType)
    assert (invoke.message.id, invoke.message.attempt) == ("x", 1)
    assert (invoke.operation, invoke.oneway) == ("do", False)
    assert msgspec.msgpack.decode(invoke.inputs) == {"a": 1}
    box = await post.info()
    assert (box.waiting, box.acknowledged) == (0, 1)


async def test_the_receiver_knows_the_sender(post: Post) -> None:
    await post.configure()
    came = await post.member("m")
    sender = await post.world.component("s")
    await post.cast(sender)
    await settled()
    assert [invoke.from_ for invoke in came] == ["s"]


async def test_a_group_without_a_mailbox_and_other_selectors_are_as_ever(post: Post) -> None:
    with pytest.raises(PlatformError) as caught:
        await post.cast()
    assert caught.value.code == "no-such-target"
    await post.configure()
    with pytest.raises(PlatformError) as caught:
        await post.cast(selector="all")
    assert caught.value.code == "no-such-target"
    assert (await post.info()).accepted == 0


async def test_casts_that_come_together_share_a_command_and_keep_their_order(post: Post) -> None:
    await post.configure()
    for number in range(50):
        params = Cast(target=f"group:{GROUP}", operation="do", id=f"m{number:02}")
        post.operator.peer.notify(CAST, params)
    await settled()
    box = post.state.require(GROUP)
    assert [stored.id for stored in box.waiting.values()] == [f"m{n:02}" for n in range(50)]
    assert max(post.log.batches) > 10


async def test_what_the_log_says_is_the_senders_error(post: Post) -> None:
    await post.configure()
    post.log.trouble = PlatformError("unavailable")
    with pytest.raises(PlatformError) as caught:
        await post.cast()
    assert caught.value.code == "unavailable"
    post.log.trouble = None
    assert (await post.cast()).accepted == 1
    assert post.part.statistics()["casts"]["refused"] == 1


async def test_a_full_mailbox_refuses_and_known_ids_are_still_known(post: Post) -> None:
    await post.configure(messages_max=1)
    await post.cast(id="x")
    batches = len(post.log.batches)
    with pytest.raises(PlatformError) as caught:
        await post.cast(id="y")
    assert caught.value.code == "limit-exceeded"
    assert len(post.log.batches) == batches  # a flood costs the log nothing
    assert (await post.cast(id="x")).message == "x"


async def test_a_message_that_is_too_large_or_badly_named_is_refused(post: Post) -> None:
    await post.configure()
    large = msgspec.Raw(msgspec.msgpack.encode("x" * limits.DURABLE_MESSAGE_BYTES_MAX))
    for given, code in (
        ({"inputs": large}, "limit-exceeded"),
        ({"id": "x" * (limits.DURABLE_ID_LENGTH_MAX + 1)}, "invalid"),
        ({"id": "a\nb"}, "invalid"),
    ):
        with pytest.raises(PlatformError) as caught:
            await post.cast(**given)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"backoff_s": -1.0},
        {"backoff_s": float("nan")},
        {"messages_max": limits.DURABLE_MESSAGES_MAX + 1},
        {"bytes_max": 1},
        {"timeout_s": 0.0},
        {"in_flight": 0},
    ],
)
async def test_settings_have_bounds(post: Post, wrong: dict[str, Any]) -> None:
    with pytest.raises(PlatformError) as caught:
        await post.configure(**wrong)
    assert caught.value.code == "invalid"
    assert caught.value.data["field"] == next(iter(wrong))


async def test_dead_letters_are_listed_redelivered_and_discarded(post: Post) -> None:
    await post.configure()
    reject = PlatformError("reject", "never")
    await post.member("m", reject, reject)
    for one in ("x", "y"):
        await post.cast(id=one)
    await settled()
    query = messages.DeadLetters(group=GROUP)
    found = await post.operator.call(messages.DEAD_LETTERS, query)
    assert [(m.message, m.reason, m.component) for m in found.letters] == [
        ("x", "reject: never", "m"),
        ("y", "reject: never", "m"),
    ]
    later = messages.DeadLetters(group=GROUP, after=found.letters[0].number, limit=1)
    rest = await post.operator.call(messages.DEAD_LETTERS, later)
    assert ([m.message for m in rest.letters], rest.dead) == (["y"], 2)
    again = messages.Redeliver(group=GROUP, messages=["x"])
    assert await post.operator.call(messages.REDELIVER, again) == messages.Redelivered(
        redelivered=1, dead=1
    )
    await settled()
    gone = messages.Discard(group=GROUP, all=True)
    assert await post.operator.call(messages.DISCARD, gone) == messages.Discarded(
        discarded=1, dead=0
    )
    box = await post.info()
    assert (box.acknowledged, box.discarded, box.dead) == (1, 1, 0)


async def test_which_dead_letters_must_be_said(post: Post) -> None:
    await post.configure()
    for ids, everything in (([], False), (["x"], True), (["x"] * (IDS_MAX + 1), False)):
        for method, kind in (
            (messages.REDELIVER, messages.Redeliver),
            (messages.DISCARD, messages.Discard),
        ):
            error = await post.operator.error(
                method, kind(group=GROUP, messages=ids, all=everything)
            )
            assert (error.code, error.data["field"]) == ("invalid", "messages")


async def test_all_mailboxes_are_listed_and_unknown_groups_are_not_there(post: Post) -> None:
    await post.configure()
    listed = await post.operator.call(messages.GROUP, messages.GroupQuery())
    assert [info.group for info in listed.groups] == [GROUP]
    for method, params in (
        (messages.GROUP, messages.GroupQuery(group="nobody")),
        (messages.DEAD_LETTERS, messages.DeadLetters(group="nobody")),
        (messages.REDELIVER, messages.Redeliver(group="nobody", all=True)),
    ):
        assert (await post.operator.error(method, params)).code == "no-such-target"


async def test_taking_the_mailbox_away_ends_it(post: Post) -> None:
    await post.configure()
    none = messages.ConfigureGroup(group=GROUP, mailbox="none")
    assert (await post.operator.call(messages.CONFIGURE_GROUP, none)).mailbox is None
    assert post.state.box(GROUP) is None
    assert post.part.statistics()["kept"] == 0
