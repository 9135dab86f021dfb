"""The section "mailboxes": bounded, once by id, in order, nothing is lost, fenced by the ring."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paas.base.errors import PlatformError
from paas.base.ids import VIRTUAL_NODES
from paas.controller.messages import TypeRegistered
from paas.hub import limits
from paas.hub.mailbox import MailboxState, settings_of, virtual_node_of
from paas.hub.mailbox_box import Box, size_of
from paas.hub.mailbox_commands import (
    AckMessages,
    ConfigureGroup,
    DiscardMessages,
    FailMessage,
    MailboxChanged,
    MessagesWaiting,
    NewMessage,
    PutMessages,
    RedeliverMessages,
    Settings,
)
from paas.hub.ring_state import RingState
from paas.node.state import LoseNode, NodeRegister, ReportNode
from paas.raft.command import Stamp, command, encode
from paas.raft.machine import Applied, Context, Machine

GROUP = "orders"


@command(9_940)
class RegisterDeclared(msgspec.Struct, frozen=True, kw_only=True):
    """Command for tests: a type with these groups in its manifest is registered."""

    type: str
    groups: dict[str, Any]


class Kind(msgspec.Struct):
    manifest: dict[str, Any]


class Types:
    """Stands for the controller's section, as far as mailboxes look at it."""

    name = "controller"

    def __init__(self) -> None:
        self.known: dict[str, Kind] = {}
        self.types = self
        self.commands = {RegisterDeclared: self._register}

    def resolve(self, name: str) -> Kind:
        return self.known[name]

    def _register(self, cmd: RegisterDeclared, ctx: Context) -> None:
        ctx.sections["mailboxes"].check_declared(cmd.groups)
        self.known[cmd.type] = Kind({"groups": cmd.groups})
        ctx.emit(TypeRegistered(type=cmd.type, bundle="b"))

    def react(self, event: object, ctx: Context, /) -> None:
        pass

    def snapshot(self) -> Any:
        return {name: kind.manifest for name, kind in self.known.items()}

    def restore(self, plain: Any, /) -> None:
        self.known = {name: Kind(manifest) for name, manifest in plain.items()}


class Cluster:
    """A machine with mailboxes and a ring, and commands one after the other."""

    def __init__(self, *nodes: str) -> None:
        self.state, self.ring, self.register = MailboxState(), RingState(), NodeRegister()
        self.machine = Machine([self.register, self.ring, Types(), self.state])
        self.index = 0
        for node in nodes or ("n1",):
            self.apply(ReportNode(node=node, memory_bytes=1, cpu=1.0, leased=True, cleared=True))

    def apply(self, cmd: msgspec.Struct) -> Applied:
        self.index += 1
        stamp = Stamp(time_ms=self.index, seed=bytes(16), proposer="t", sequence=self.index)
        return self.machine.apply(self.index, encode(cmd, stamp))

    def do(self, cmd: msgspec.Struct) -> Any:
        """The result; an error is raised."""
        applied = self.apply(cmd)
        if applied.error is not None:
            raise applied.error
        return applied.result

    def configure(self, **given: Any) -> None:
        self.do(ConfigureGroup(group=GROUP, settings=Settings(**given)))

    def put(self, *ids: str, sender: str = "a", inputs: bytes = b"\x80") -> list[str]:
        """Codes of the refusals."""
        messages = [message(one, sender=sender, inputs=inputs) for one in ids]
        return [code for _, code, _ in self.do(PutMessages(messages=messages))["refused"]]

    @property
    def box(self) -> Box:
        return self.state.require(GROUP)

    def numbers(self) -> list[int]:
        return list(self.box.waiting)

    def fence(self) -> dict[str, Any]:
        number = virtual_node_of(GROUP)
        by, epoch = self.ring.primary(number), self.ring.epoch(number)
        return {"group": GROUP, "by": by or "", "ring_epoch": epoch}

    def acknowledge(self, *numbers: int) -> int:
        done: int = self.do(AckMessages(numbers=list(numbers), **self.fence()))["acknowledged"]
        return done

    def fail(self, number: int, attempt: int = 1, *, rejected: bool = False) -> Any:
        failure = FailMessage(
            number=number,
            attempt=attempt,
            reason="because",
            member="m",
            rejected=rejected,
            **self.fence(),
        )
        return self.do(failure)

    def copy(self) -> Cluster:
        other = Cluster()
        other.machine.restore_bytes(self.machine.snapshot_bytes())
        other.index = self.index
        return other


def message(identity: str = "", *, sender: str = "a", inputs: bytes = b"\x80") -> NewMessage:
    return NewMessage(group=GROUP, operation="do", inputs=inputs, from_=sender, id=identity)


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.configure()
    return made


def code_of(applied: Applied) -> str:
    assert applied.error is not None
    return applied.error.code


# -- configuring ----


def test_a_group_without_a_mailbox_takes_no_messages() -> None:
    cluster = Cluster()
    assert cluster.put("x") == ["not-available"]
    with pytest.raises(PlatformError, match="no durable mailbox"):
        cluster.state.require(GROUP)


def test_configuring_again_changes_settings_and_keeps_messages(cluster: Cluster) -> None:
    cluster.put("x")
    cluster.configure(attempts=2)
    assert cluster.box.settings.attempts == 2
    assert len(cluster.box.waiting) == 1


def test_the_order_cannot_change_while_messages_wait(cluster: Cluster) -> None:
    cluster.put("x")
    command_ = ConfigureGroup(group=GROUP, settings=Settings(ordered=False))
    assert code_of(cluster.apply(command_)) == "conflict"
    cluster.acknowledge(*cluster.numbers())
    cluster.do(command_)
    assert not cluster.box.settings.ordered


def test_a_mailbox_is_taken_away_only_when_it_is_empty(cluster: Cluster) -> None:
    cluster.put("x", "y")
    away = ConfigureGroup(group=GROUP, settings=None)
    assert code_of(cluster.apply(away)) == "conflict"
    first, second = cluster.numbers()
    cluster.acknowledge(first)
    cluster.fail(second, rejected=True)
    assert code_of(cluster.apply(away)) == "conflict"
    cluster.do(DiscardMessages(group=GROUP, ids=None))
    assert MailboxChanged(group=GROUP) in cluster.apply(away).events
    assert cluster.state.box(GROUP) is None
    assert cluster.apply(away).error is None


def test_there_are_so_many_mailboxes_and_no_more() -> None:
    cluster = Cluster()
    for number in range(limits.DURABLE_MAILBOXES_MAX):
        cluster.do(ConfigureGroup(group=f"g{number}", settings=Settings()))
    one_more = ConfigureGroup(group="one-more", settings=Settings())
    assert code_of(cluster.apply(one_more)) == "limit-exceeded"


# -- manifests ----


def declared(**given: Any) -> dict[str, Any]:
    common = {"mailbox": "durable", "attempts": 5, "backoff": 1.0, "messages_max": 10_000}
    more = {"bytes_max": 4 << 20, "ordered": True, "timeout": 30.0, "in_flight": 16}
    return {**common, **more, **given}


def test_a_registered_type_brings_the_mailboxes_that_it_declares() -> None:
    cluster = Cluster()
    groups = {GROUP: declared(attempts=7), "other": declared(mailbox="none")}
    applied = cluster.apply(RegisterDeclared(type="t@1", groups=groups))
    assert MailboxChanged(group=GROUP) in applied.events
    assert cluster.box.settings == Settings(attempts=7)
    assert cluster.state.box("other") is None


def test_equal_declarations_agree_and_others_are_a_conflict(cluster: Cluster) -> None:
    cluster.put("x")
    assert cluster.apply(RegisterDeclared(type="t@1", groups={GROUP: declared()})).error is None
    assert len(cluster.box.waiting) == 1
    for other in (declared(attempts=6), declared(mailbox="none")):
        assert (
            code_of(cluster.apply(RegisterDeclared(type="t@2", groups={GROUP: other})))
            == "conflict"
        )
    assert settings_of(declared()) == Settings()


# -- putting ----


def test_accepted_messages_wait_in_order_and_are_told(cluster: Cluster) -> None:
    applied = cluster.apply(PutMessages(messages=[message(), message("mine")]))
    assert applied.events == (MessagesWaiting(group=GROUP, numbers=(1, 2)),)
    ids = [stored.id for stored in cluster.box.waiting.values()]
    assert ids == [f"{cluster.index:x}.0", "mine"]


def test_an_id_is_accepted_once_for_each_sender(cluster: Cluster) -> None:
    assert cluster.put("x", "x") == []
    assert cluster.put("x") == []
    cluster.put("x", sender="b")
    assert [(s.sender, s.id) for s in cluster.box.waiting.values()] == [("a", "x"), ("b", "x")]
    cluster.acknowledge(1)
    assert cluster.put("x") == []
    assert cluster.numbers() == [2]
    assert cluster.copy().put("x") == []
    assert cluster.box.counts.accepted == 2


def test_ids_of_finished_messages_are_forgotten_when_there_are_many(cluster: Cluster) -> None:
    cluster.put("first")
    cluster.acknowledge(1)
    for number in range(limits.DURABLE_IDS_REMEMBERED):
        cluster.put(f"id{number}")
        cluster.acknowledge(number + 2)
    cluster.put("first")
    assert len(cluster.box.waiting) == 1


def test_one_message_too_many_is_refused_and_the_others_of_its_command_are_not() -> None:
    cluster = Cluster()
    cluster.configure(messages_max=2)
    assert cluster.put("x", "y", "z") == ["limit-exceeded"]
    assert cluster.put("x") == []
    cluster.acknowledge(1)
    assert cluster.put("z") == []


def test_bytes_are_bounded() -> None:
    cluster = Cluster()
    cluster.configure(bytes_max=limits.DURABLE_BYTES_MIN)
    big = bytes(limits.DURABLE_MESSAGE_BYTES_MAX - 100)
    count = limits.DURABLE_BYTES_MIN // size_of(message("", inputs=big))
    for _ in range(count):
        assert cluster.put("", inputs=big) == []
    assert cluster.put("", inputs=big) == ["limit-exceeded"]
    assert cluster.put("", inputs=bytes(limits.DURABLE_MESSAGE_BYTES_MAX + 1)) == ["limit-exceeded"]
    assert cluster.box.waiting_bytes <= limits.DURABLE_BYTES_MIN


# -- the primary ----


def test_who_is_not_the_primary_changes_nothing(cluster: Cluster) -> None:
    cluster.put("x")
    fence = cluster.fence()
    for wrong in ({"by": "n9"}, {"ring_epoch": fence["ring_epoch"] + 1}):
        claim = {**fence, **wrong}
        failure = FailMessage(number=1, attempt=1, reason="r", **claim)
        assert code_of(cluster.apply(AckMessages(numbers=[1], **claim))) == "conflict"
        assert code_of(cluster.apply(failure)) == "conflict"
    assert cluster.box.waiting[1].attempts == 0


def test_a_primary_that_was_lost_is_refused_and_its_heir_is_not() -> None:
    cluster = Cluster("n1", "n2", "n3")
    cluster.configure()
    cluster.put("x")
    old = cluster.fence()
    epoch = cluster.register.nodes()
    lost = next(node for node in epoch if node.name == old["by"])
    cluster.do(LoseNode(node=lost.name, epoch=lost.epoch, term=1))
    assert code_of(cluster.apply(AckMessages(numbers=[1], **old))) == "conflict"
    assert cluster.fence()["by"] != old["by"]
    assert cluster.acknowledge(1) == 1


def test_groups_are_spread_over_the_ring() -> None:
    places = {virtual_node_of(f"group-{number}") for number in range(500)}
    assert len(places) > 400
    assert min(places) >= 0
    assert max(places) < VIRTUAL_NODES


# -- failures ----


def test_a_message_dies_after_its_attempts_with_the_last_reason() -> None:
    cluster = Cluster()
    cluster.configure(attempts=2)
    cluster.put("x")
    assert cluster.fail(1) == {"gone": False, "dead": False, "attempts": 1}
    assert cluster.fail(1, 2) == {"gone": True, "dead": True, "attempts": 2}
    (letter,) = cluster.box.dead.values()
    assert (letter.id, letter.reason, letter.attempts, letter.member) == ("x", "because", 2, "m")
    assert cluster.numbers() == []


def test_the_same_failure_counts_once(cluster: Cluster) -> None:
    cluster.put("x")
    cluster.fail(1)
    assert cluster.fail(1)["attempts"] == 1
    cluster.acknowledge(1)
    assert cluster.fail(1, 2) == {"gone": True, "dead": False, "attempts": 0}


def test_a_rejected_message_dies_at_once(cluster: Cluster) -> None:
    cluster.put("x")
    assert cluster.fail(1, rejected=True)["dead"]


def test_the_oldest_dead_letters_are_dropped_and_counted(cluster: Cluster) -> None:
    for number in range(limits.DEAD_LETTERS_MAX + 3):
        cluster.put(f"id{number}")
        cluster.fail(number + 1, rejected=True)
    assert len(cluster.box.dead) == limits.DEAD_LETTERS_MAX
    assert next(iter(cluster.box.dead.values())).id == "id3"
    assert cluster.box.counts.dropped == 3


def test_redelivered_messages_wait_behind_the_others_with_all_their_attempts(
    cluster: Cluster,
) -> None:
    cluster.put("x", "y", "z")
    cluster.fail(1, rejected=True)
    cluster.fail(2, rejected=True)
    result = cluster.do(RedeliverMessages(group=GROUP, ids=["x", "unknown"]))
    assert result == {"redelivered": 1, "dead": 1}
    assert [(s.number, s.id, s.attempts) for s in cluster.box.waiting.values()] == [
        (3, "z", 0),
        (4, "x", 0),
    ]
    assert cluster.put("x") == []
    assert cluster.numbers() == [3, 4]


def test_only_as_many_are_redelivered_as_there_is_room_for() -> None:
    cluster = Cluster()
    cluster.configure(messages_max=2)
    for one in ("x", "y", "z"):
        cluster.put(one)
        cluster.fail(cluster.numbers()[0], rejected=True)
    result = cluster.do(RedeliverMessages(group=GROUP, ids=None))
    assert result == {"redelivered": 2, "dead": 1}


# -- any history ----

SENDERS = ("a", "b")
IDS = ("", "x", "y", "z")
SMALL = 3


class Histories(RuleBasedStateMachine):
    """What a mailbox promises, against a list of what was told; small bounds, so they are met."""

    @initialize(ordered=st.booleans())
    def begin(self, ordered: bool) -> None:
        self.cluster = Cluster()
        self.cluster.configure(attempts=2, messages_max=SMALL, ordered=ordered)
        self.accepted: list[tuple[str, str]] = []  # sender and id, in order
        self.finished: set[int] = set()  # numbers that were acknowledged or died

    @rule(
        sender=st.sampled_from(SENDERS),
        ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=3),
    )
    def put(self, sender: str, ids: list[str]) -> None:
        before = set(self.cluster.numbers())
        known = [one for one in ids if one and self.cluster.box.knows(sender, one)]
        refused = self.cluster.put(*ids, sender=sender)
        fresh = [n for n in self.cluster.numbers() if n not in before]
        assert len(fresh) + len(refused) + len(known) >= len(set(ids))
        assert len(fresh) + len(refused) <= len(ids)
        assert all(number > max(before | self.finished | {0}) for number in fresh)

    @precondition(lambda self: self.cluster.numbers())
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.cluster.numbers()))
        assert self.cluster.acknowledge(number, number) == 1
        assert self.cluster.acknowledge(number) == 0
        self.finished.add(number)

    @precondition(lambda self: self.cluster.numbers())
    @rule(data=st.data(), rejected=st.booleans(), late=st.booleans())
    def fail(self, data: st.DataObject, rejected: bool, late: bool) -> None:
        number = data.draw(st.sampled_from(self.cluster.numbers()))
        attempt = self.cluster.box.waiting[number].attempts + 1 - late
        result = self.cluster.fail(number, attempt, rejected=rejected)
        if not late:
            assert result["dead"] == (rejected or attempt == 2)
        if result["dead"]:
            assert number in self.cluster.box.dead
            self.finished.add(number)

    @rule(ids=st.none() | st.lists(st.sampled_from(IDS), max_size=2))
    def redeliver(self, ids: list[str] | None) -> None:
        before = len(self.cluster.box.dead)
        result = self.cluster.do(RedeliverMessages(group=GROUP, ids=ids))
        assert result["redelivered"] + result["dead"] == before

    @rule(ids=st.none() | st.lists(st.sampled_from(IDS), max_size=2))
    def discard(self, ids: list[str] | None) -> None:
        self.cluster.do(DiscardMessages(group=GROUP, ids=ids))

    @rule()
    def restart(self) -> None:
        before = self.cluster.machine.snapshot_bytes()
        self.cluster = self.cluster.copy()
        assert self.cluster.machine.snapshot_bytes() == before

    @invariant()
    def nothing_is_lost(self) -> None:
        box, counts = self.cluster.box, self.cluster.box.counts
        gone = counts.acknowledged + counts.discarded + counts.dropped
        assert counts.accepted == len(box.waiting) + len(box.dead) + gone

    @invariant()
    def it_is_bounded_and_adds_up(self) -> None:
        box = self.cluster.box
        assert len(box.waiting) <= SMALL
        assert box.waiting_bytes == sum(stored.size for stored in box.waiting.values())
        assert box.dead_bytes == sum(stored.size for stored in box.dead.values())

    @invariant()
    def what_is_finished_does_not_wait_again(self) -> None:
        numbers = self.cluster.numbers()
        assert numbers == sorted(numbers)
        assert not self.finished & set(numbers)

    @invariant()
    def an_id_is_there_once(self) -> None:
        box = self.cluster.box
        given = [s.key for kept in (box.waiting, box.dead) for s in kept.values() if s.given]
        assert len(given) == len(set(given))
        assert all(box.knows(*key) for key in given)


Histories.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestHistories = Histories.TestCase
