"""The section of durable attributes, the store of volatile ones, the history, the counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentForgotten
from paas.hub import attribute_limits as limits
from paas.hub.attribute_messages import Interest, Topic
from paas.hub.attributes import AttributesChanged, AttributeState, PutAttributes, canonical
from paas.hub.history import History
from paas.hub.interest import Interests
from paas.hub.state import GroupState, JoinGroups, LeaveGroups
from paas.hub.volatile import Change, VolatileAttributes
from paas.raft.command import SEED_BYTES, Stamp, command, encode
from paas.raft.machine import Applied, Context, Machine
from paas.testing.hub_in_memory import Announce, Lives
from paas.wire import codec


@command(9_931)
class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """Command for tests: the record of a component is gone."""

    component: str


class Forgetting:
    name = "forgetting"

    def __init__(self) -> None:
        self.commands = {Forget: self._forget}

    def _forget(self, cmd: Forget, ctx: Context) -> None:
        ctx.emit(ComponentForgotten(component=cmd.component))

    def react(self, event: object, ctx: Context, /) -> None:
        pass

    def snapshot(self) -> Any:
        return None

    def restore(self, plain: Any, /) -> None:
        pass


class Cluster:
    """The sections of a hub."""

    def __init__(self) -> None:
        self.attributes, self.groups = AttributeState(), GroupState()
        self.history = History(self.groups.groups_of)
        self.machine = Machine([Lives(), Forgetting(), self.groups, self.attributes, self.history])
        self.index = 0

    def apply(self, cmd: msgspec.Struct) -> Applied:
        self.index += 1
        stamp = Stamp(1, bytes(SEED_BYTES), "t", self.index)
        return self.machine.apply(self.index, encode(cmd, stamp))

    def put(self, component: str = "a", object: str = "", **attributes: Any) -> Applied:  # noqa: A002
        packed = {n: None if v is None else codec.pack(v) for n, v in attributes.items()}
        return self.apply(PutAttributes(component=component, object=object, attributes=packed))

    def of(self, component: str = "a", object: str = "") -> dict[str, Any]:  # noqa: A002
        found = self.attributes.of(component, object)
        return {name: codec.unpack_own(value) for name, value in found.items()}


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    for component in "ab":
        made.apply(Announce(what="created", component=component, groups=["g"]))
        made.apply(Announce(what="changed", component=component, state="available"))
    return made


def error(applied: Applied) -> str:
    assert applied.error is not None
    return applied.error.code


# -- durable --------------------------------------------------------------------------------------


def test_setting_changing_and_removing(cluster: Cluster) -> None:
    assert cluster.put(x=1, y=[1, {"a": None}]).result == {"index": cluster.index}
    cluster.put(x=2, y=None)
    cluster.put(object="lamp", on=True)
    assert cluster.of() == {"x": 2}
    assert cluster.of(object="lamp") == {"on": True}
    assert cluster.attributes.objects("a") == ["", "lamp"]
    cluster.put(x=None)
    assert cluster.attributes.objects("a") == ["lamp"]


def test_only_what_changes_is_told(cluster: Cluster) -> None:
    cluster.put(x=1, y=1)
    (event,) = cluster.put(x=1, y=2, z=None).events
    assert event == AttributesChanged(component="a", object="", attributes={"y": codec.pack(2)})
    assert cluster.put(x=1, none=None).events == ()


def test_a_check_of_what_is_there_fails_as_a_whole(cluster: Cluster) -> None:
    cluster.put(x=1)

    def change(expect: dict[str, bytes | None]) -> Applied:
        new = {"x": codec.pack(9), "y": codec.pack(9)}
        return cluster.apply(PutAttributes(component="a", attributes=new, expect=expect))

    assert error(change({"x": codec.pack(2)})) == "conflict"
    assert error(change({"x": None})) == "conflict"
    assert error(change({"x": codec.pack(1), "y": codec.pack(1)})) == "conflict"
    assert cluster.of() == {"x": 1}
    assert change({"x": codec.pack(1), "y": None}).error is None
    assert cluster.of() == {"x": 9, "y": 9}


def test_equal_values_are_equal_bytes() -> None:
    one, other = codec.pack({"a": 1, "b": 2}), codec.pack({"b": 2, "a": 1})
    assert one != other
    assert canonical("f", one) == canonical("f", other)
    assert canonical("f", codec.pack(1)) != canonical("f", codec.pack(1.0))
    assert canonical("f", codec.pack(None)) is None
    for wrong in (codec.pack({"a": 1, 2: 3}), b"\xc1", b"\x91" * 99 + b"\x01"):
        with pytest.raises(PlatformError) as caught:
            canonical("attributes.x", wrong)
        assert caught.value.code == "invalid"
        assert caught.value.data["field"] == "attributes.x"


def test_attributes_outlive_the_end_and_go_with_the_record(cluster: Cluster) -> None:
    cluster.put(x=1)
    cluster.put(object="o", y=1)
    cluster.apply(Announce(what="ended", component="a"))
    cluster.apply(Announce(what="changed", component="a", state="destroyed"))
    assert cluster.of() == {"x": 1}
    assert cluster.put(x=2).error is None
    events = cluster.apply(Forget(component="a")).events
    gone = [(e.object, e.attributes) for e in events if isinstance(e, AttributesChanged)]
    assert gone == [("", {"x": None}), ("o", {"y": None})]
    assert cluster.of() == {}
    assert cluster.attributes.total_bytes == 0
    assert error(cluster.put(x=3)) == "no-such-target"
    assert error(cluster.put("nobody", x=3)) == "no-such-target"


def test_limits_name_what_is_too_much(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"n{number}": 1 for number in range(limits.NAMES_MAX)}
    assert cluster.put(**names).error is None
    assert error(cluster.put(more=1)) == "limit-exceeded"
    assert cluster.put(more=1, n0=None).error is None
    for number in range(limits.OBJECTS_MAX - 1):
        assert cluster.put(object=f"o{number}", x=1).error is None
    full = cluster.put(object="one more", x=1)
    assert full.error is not None
    assert "objects" in full.error.message
    monkeypatch.setattr(limits, "DURABLE_BYTES_MAX", 60_000)
    big = "x" * 20_000
    assert cluster.put("b", x=big).error is None
    assert cluster.put("b", y=big).error is None
    full = cluster.put("b", z=big)
    assert full.error is not None
    assert "one component" in full.error.message
    assert cluster.put("b", z=big, x=None).error is None, "what goes makes room"
    monkeypatch.setattr(limits, "DURABLE_CLUSTER_BYTES_MAX", cluster.attributes.total_bytes + 10)
    full = cluster.put("b", object="o", z="x" * 50)
    assert full.error is not None
    assert "all" in full.error.message
    assert cluster.put("b", z=None).error is None


def test_a_snapshot_is_the_same_state(cluster: Cluster) -> None:
    cluster.put(x=1, y="text")
    cluster.put("b", object="o", z=[1])
    other = Cluster()
    other.machine.restore_bytes(cluster.machine.snapshot_bytes())
    assert other.machine.snapshot_bytes() == cluster.machine.snapshot_bytes()
    assert other.attributes.total_bytes == cluster.attributes.total_bytes
    other.index = cluster.index
    assert other.put(x=2).error is None


# -- volatile -------------------------------------------------------------------------------------


def test_volatile_values_end_with_their_time_or_their_incarnation() -> None:
    store = VolatileAttributes()
    change = store.put("a", "", {"x": b"\x01", "y": b"\x02", "z": None}, until_s=10.0)
    assert change == Change("a", "", {"x": b"\x01", "y": b"\x02"})
    store.put("a", "", {"y": b"\x03"})
    store.put("a", "o", {"y": b"\x03"})
    assert store.mortal
    assert store.expire(9.9) == []
    assert store.expire(10.0) == [Change("a", "", {"x": None})]
    assert not store.mortal
    assert store.of("a") == {"y": b"\x03"}
    assert store.end("a") == [Change("a", "", {"y": None}), Change("a", "o", {"y": None})]
    assert store.components() == []
    assert store.end("a") == []


def test_volatile_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    store = VolatileAttributes()
    monkeypatch.setattr(limits, "VOLATILE_BYTES_MAX", 1_000)
    monkeypatch.setattr(limits, "VOLATILE_NODE_BYTES_MAX", 1_500)
    store.put("a", "", {"x": bytes(700)})
    for component in ("a", "b"):
        with pytest.raises(PlatformError) as caught:
            store.put(component, "", {"y": bytes(900)})
        assert caught.value.code == "limit-exceeded"
    store.put("a", "", {"x": bytes(10)})
    store.put("b", "", {"y": bytes(900)})
    many = {f"n{number}": b"\x01" for number in range(limits.NAMES_MAX + 1)}
    with pytest.raises(PlatformError, match="attributes of one object"):
        store.put("c", "", many)
    assert store.of("c") == {}


# -- history --------------------------------------------------------------------------------------


def told(cluster: Cluster, kind: str, key: str, since: int) -> list[int] | None:
    records = cluster.history.after((kind, key), since)
    return None if records is None else [record.index for record in records]


def test_the_history_knows_what_each_event_is_about(cluster: Cluster) -> None:
    since = cluster.index
    cluster.put(x=1)
    cluster.apply(LeaveGroups(component="a", groups=["g"]))
    cluster.put(x=2)
    cluster.apply(JoinGroups(component="a", groups=["h"]))
    one, two, three, four = range(since + 1, since + 5)
    assert told(cluster, "attributes", "a", since) == [one, three]
    assert told(cluster, "attributes", "group:g", since) == [one, two]
    assert told(cluster, "group", "g", since) == [two]
    assert told(cluster, "group", "h", since) == [four]
    assert told(cluster, "attributes", "a", one) == [three]
    assert told(cluster, "attributes", "nobody", since) == []
    assert [record.index for record in cluster.history.at(two) or []] == [two]


def test_the_oldest_is_forgotten_and_asking_for_it_is_noticed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_EVENTS_MAX", 5)
    for number in range(10):
        cluster.put(x=number)
    last = cluster.index
    assert len(cluster.history) == 5
    assert cluster.history.floor == last - 5
    assert told(cluster, "attributes", "a", last - 5) == list(range(last - 4, last + 1))
    assert told(cluster, "attributes", "a", last - 6) is None
    assert cluster.history.at(last - 5) is None
    monkeypatch.setattr(limits, "HISTORY_BYTES_MAX", 1_500)
    cluster.put(x="x" * 900)
    assert len(cluster.history) < 5
    assert told(cluster, "attributes", "a", cluster.index - 1) == [cluster.index]


def test_a_state_taken_over_begins_a_new_history(cluster: Cluster) -> None:
    cluster.put(x=1)
    state, index = cluster.machine.snapshot_bytes(), cluster.index
    cluster.machine.restore_bytes(state)
    assert told(cluster, "attributes", "a", index) is None
    cluster.history.begin(index)
    cluster.put(x=2)
    assert told(cluster, "attributes", "a", index) == [index + 1]
    assert told(cluster, "attributes", "a", index - 1) is None


# -- interest -------------------------------------------------------------------------------------


def test_hubs_tell_each_other_how_many_watch_what() -> None:
    one, other = Interests(), Interests()
    key = ("signals", "a", "", "on")
    one.add(key)
    assert one.change("n2", Topic(*key, 1)) is None, "it was not told the whole yet"
    for said in one.whole("n2"):
        other.hear("n1", said)
    assert other.wanted([key, ("signals", "b", "", "")]) == {"n1": 1}
    for change in (one.add(key), one.add(key), one.remove(key)):
        said = one.change("n2", change)
        assert said is not None
        other.hear("n1", said)
    assert other.wanted([key]) == {"n1": 2}
    one.remove(key)
    said = one.change("n2", one.remove(key))
    assert said is not None
    other.hear("n1", said)
    assert other.wanted([key]) == {}
    assert len(one) == 0


def test_what_an_older_connection_said_is_not_believed() -> None:
    other = Interests()
    topic = Topic("signals", "a", "", "", 1)
    other.hear("n1", Interest(epoch=2, topics=[], whole=True))
    other.hear("n1", Interest(epoch=1, topics=[topic]))
    assert other.wanted([("signals", "a", "", "")]) == {}
    other.hear("n1", Interest(epoch=2, topics=[topic]))
    assert other.wanted([("signals", "a", "", "")]) == {"n1": 1}
    other.forget("n1")
    assert other.wanted([("signals", "a", "", "")]) == {}


def test_a_long_list_comes_in_pieces_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Interests(), Interests()
    monkeypatch.setattr(limits, "INTEREST_BATCH", 10)
    monkeypatch.setattr(limits, "INTEREST_TOPICS_MAX", 35)
    for number in range(35):
        one.add(("signals", f"c{number}", "", ""))
    with pytest.raises(PlatformError) as caught:
        one.add(("signals", "one more", "", ""))
    assert caught.value.code == "limit-exceeded"
    pieces = list(one.whole("n2"))
    assert [len(piece.topics) for piece in pieces] == [10, 10, 10, 5]
    for piece in pieces:
        other.hear("n1", piece)
    assert other.wanted(("signals", f"c{number}", "", "") for number in range(35)) == {"n1": 35}
