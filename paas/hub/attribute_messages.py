"""Messages about attributes and signals, and between hubs about who wants to hear of which.

Part of the register of `paas.hub.messages`, numbers 110-112 and 131-133.  Values of attributes and
payloads of signals pass through undecoded; a value that is null removes its name.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from paas.wire.registry import Message, Nothing, Params, method

Kind = Literal["durable", "volatile"]

NULL = msgspec.Raw(b"\xc0")


def null() -> msgspec.Raw:
    return NULL


class SetAttributes(Params, frozen=True, kw_only=True):
    """Set attributes of an object, of the caller itself or (for operators) of any component.

    A value of null removes the name.  `durable` ones live in the cluster's log until the component
    is forgotten, and can be read while it is busy or gone; `volatile` ones live in the hub of the
    component's node until its incarnation ends, or for `ttl` seconds.  `expect` (durable only) are
    the values that must be there at that moment, null for none; else `conflict`, nothing is set.
    """

    attributes: dict[str, msgspec.Raw]
    target: str = ""
    object: str = ""
    kind: Kind = "durable"
    expect: dict[str, msgspec.Raw] = {}
    ttl: float | None = None


class SetAttributesResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The log index of the change; 0 for volatile ones."""

    index: int


class GetAttributes(Params, frozen=True, kw_only=True):
    """Read attributes of an object, of the caller itself, any component, or all members of a group.

    `names` are the wanted ones (null: all); `kind` leaves out those of the other kind.  Of a group
    the answer is one map a member; with `aggregate` also one number a name, over the members that
    have a number there (`count`: that have anything).
    """

    target: str = ""
    object: str = ""
    names: list[str] | None = None
    kind: Kind | None = None
    aggregate: Literal["sum", "min", "max", "avg", "count"] | None = None


class GetAttributesResult(Message, frozen=True, kw_only=True):
    """The attributes, durable ones as of `index`.

    `missing`: components whose volatile attributes could not be read, and why.  `stale_s`: no
    leader was heard for so long, so that durable ones may be old.
    """

    index: int
    attributes: dict[str, msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    members: dict[str, dict[str, msgspec.Raw]] | msgspec.UnsetType = msgspec.UNSET
    aggregates: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    missing: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    stale_s: float | msgspec.UnsetType = msgspec.UNSET


class Signal(Params, frozen=True, kw_only=True):
    """Tell whoever watches signals of the caller, or of a group that it is in.  Nobody answers."""

    signal: str
    payload: msgspec.Raw = msgspec.field(default_factory=null)
    object: str = ""


class SignalResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How many watches it goes to, on all nodes, as far as this hub knows."""

    watchers: int


class WatchAttributes(Message, frozen=True, kw_only=True):
    """Which attributes: of a component (id or name) or of the members of `group:<name>`."""

    target: str
    object: str = ""
    names: list[str] | None = None
    kind: Kind | None = None


class WatchSignals(Message, frozen=True, kw_only=True):
    """Which signals: of a component or of the members of `group:<name>`; empty `signal`: any."""

    target: str
    object: str = ""
    signal: str = ""


class Topic(Message, frozen=True, array_like=True):
    """What a hub has watchers for, and how many; 0: none any more."""

    kind: str
    target: str
    object: str
    name: str
    count: int


class Interest(Params, frozen=True, kw_only=True):
    """From hub to hub: what I have watchers for.  `whole` begins the complete list anew."""

    epoch: int
    topics: list[Topic]
    whole: bool = False


class Publish(Params, frozen=True, kw_only=True):
    """From hub to hub: a signal or changed volatile attributes of a component of my node.

    `gap`: so many of them were not sent, as the link did not take them.
    """

    kind: Literal["signal", "values", "gap"]
    component: str = ""
    groups: list[str] = []
    object: str = ""
    signal: str = ""
    payload: msgspec.Raw = msgspec.field(default_factory=null)
    attributes: dict[str, msgspec.Raw] = {}
    dropped: int = 0


class Values(Params, frozen=True, kw_only=True):
    """From hub to hub: what are the volatile attributes of these components of your node?"""

    components: list[str]
    object: str = ""
    names: list[str] | None = None


class ValuesResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Component to attributes; those without any are left out."""

    values: dict[str, dict[str, msgspec.Raw]]


class Watched(Message, frozen=True, kw_only=True):
    """The data of events `changed` of attributes: which object, kind, and its new values."""

    attributes: dict[str, Any]
    object: str = ""
    kind: Kind = "durable"


SET_ATTRIBUTES = method(110, "hub.set_attributes", SetAttributes, SetAttributesResult)
GET_ATTRIBUTES = method(111, "hub.get_attributes", GetAttributes, GetAttributesResult)
SIGNAL = method(112, "hub.signal", Signal, SignalResult)
INTEREST = method(131, "hub.interest", Interest, Nothing, public=False)
PUBLISH = method(132, "hub.publish", Publish, Nothing, public=False)
VALUES = method(133, "hub.values", Values, ValuesResult, public=False)
