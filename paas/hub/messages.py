"""Every message that the component hub accepts or emits.  Numbers 100-199.

Source: component API, "hub"; platform document §4.7.2.  Targets are a component id (40 hex digits),
a component name, or `group:<name>`.  `inputs`, `outputs` and attachment data pass through the hub
undecoded.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.wire.registry import Message, Nothing, Params, method

_EMPTY_MAP = msgspec.Raw(b"\x80")
_EMPTY_LIST = msgspec.Raw(b"\x90")


# Functions, since a schema (rpc.discover) cannot show a default that is raw bytes.


def empty_map() -> msgspec.Raw:
    return _EMPTY_MAP


def empty_list() -> msgspec.Raw:
    return _EMPTY_LIST


class Call(Params, frozen=True, kw_only=True):
    """Ask a component, or members of a group, to run an operation, and wait for the answer.

    `object` is empty for the component itself.  `selector` says which members of a group: `any`
    (one that is available), `all` (every member; partial answers when the deadline comes), or
    `leader` (the member that joined first of those that are in it).
    """

    target: str
    operation: str
    object: str = ""
    inputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)
    selector: str = "any"


class CallResult(Message, frozen=True, kw_only=True):
    """One member's answer; or, for selector `all`, `replies` with an answer or error a member."""

    outputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    attachments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    component: str | msgspec.UnsetType = msgspec.UNSET
    replies: list[MemberReply] | msgspec.UnsetType = msgspec.UNSET


class MemberReply(Message, frozen=True, kw_only=True):
    """The answer of one member to a call with selector `all`: outputs, or an error."""

    component: str
    outputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    attachments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class Cast(Params, frozen=True, kw_only=True):
    """Tell a component, or members of a group, to run an operation; nobody waits for it."""

    target: str
    operation: str
    object: str = ""
    inputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)
    selector: str = "any"


class CastResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """To how many components the cast was handed."""

    accepted: int


class Join(Params, frozen=True, kw_only=True):
    """Join groups.  With `unique`, only if the group has no other member (else `conflict`)."""

    groups: list[str]
    unique: bool = False


class Positions(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Where the caller stands in each group: position and fencing token come from the log.

    `members` counts the caller.  A token is larger than all tokens given before in that group.
    """

    positions: dict[str, int]
    members: dict[str, int]
    token: dict[str, int]


class Leave(Params, frozen=True, kw_only=True):
    """Leave groups."""

    groups: list[str]


class Members(Params, frozen=True, kw_only=True):
    """List the members of a group, in joining order."""

    group: str
    selector: str = "all"


class Member(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One member of a group."""

    component: str
    name: str
    node: str
    state: str


class MembersResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The members.  `stale_s`, if there: no leader was heard for so long, so this may be old."""

    members: list[Member]
    stale_s: float | msgspec.UnsetType = msgspec.UNSET


class Groups(Params, frozen=True, kw_only=True):
    """List the groups whose name begins with `prefix`, with their numbers of members."""

    prefix: str = ""


class GroupsResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Group name to number of members.  `stale_s` as in the result of `hub.members`."""

    groups: dict[str, int]
    stale_s: float | msgspec.UnsetType = msgspec.UNSET


class Await(Params, frozen=True, kw_only=True):
    """Wait until a group has `count` available members, or a named component is available."""

    group: str = ""
    name: str = ""
    count: int = 1


class Watch(Params, frozen=True, kw_only=True):
    """Be told of changes: of a group's members now; exactly one of the fields is given.

    Events come as `component.event` notifications with the watch's number and the log index; the
    snapshot in the result is the state at `index`, after which no event is missing.
    """

    group: str | None = None
    components: bool | None = None


class WatchResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The watch's number on this connection, the state now, and the log index it is from."""

    watch: int
    snapshot: Any
    index: int


class Unwatch(Params, frozen=True, kw_only=True):
    """End a watch of this connection."""

    watch: int


class Forward(Params, frozen=True, kw_only=True, omit_defaults=False, rename={"from_": "from"}):
    """From hub to hub: run an operation of a component of your node; as a notification, a cast.

    It carries how long the caller still waits, not until when: nodes' clocks differ.
    """

    component: str
    operation: str
    object: str = ""
    inputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)
    from_: str = ""


class Forwarded(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What the operation yields."""

    outputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)


class Discover(Params, frozen=True, kw_only=True):
    """Describe this API as an OpenRPC document, made from the declared messages."""


class Document(Message, frozen=True, kw_only=True, omit_defaults=False):
    """An OpenRPC 1.3 document."""

    openrpc: str
    info: dict[str, Any]
    methods: list[Any]
    components: dict[str, Any]


DISCOVER = method(100, "rpc.discover", Discover, Document)
CALL = method(101, "hub.call", Call, CallResult)
CAST = method(102, "hub.cast", Cast, CastResult)
JOIN = method(103, "hub.join", Join, Positions)
LEAVE = method(104, "hub.leave", Leave, Nothing)
MEMBERS = method(105, "hub.members", Members, MembersResult)
GROUPS = method(106, "hub.groups", Groups, GroupsResult)
AWAIT = method(107, "hub.await", Await, MembersResult)
WATCH = method(108, "hub.watch", Watch, WatchResult)
UNWATCH = method(109, "hub.unwatch", Unwatch, Nothing)
FORWARD = method(130, "hub.forward", Forward, Forwarded, public=False)
