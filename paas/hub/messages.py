"""Every message that the component hub accepts or emits.  Numbers 100-199.

Source: component API, "hub"; platform document §4.7.2.  Targets are a component id (40 hex digits),
a component name, or `group:<name>`.  `inputs`, `outputs` and attachment data pass through the hub
undecoded.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.hub.attribute_messages import WatchAttributes, WatchSignals
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
    (one that is available, in turn), `all` (every member; partial answers when the deadline
    comes), `leader` (the member that joined first of those that are in it), `nearest` (on this
    node, else on the node with the shortest round-trip), `least-loaded` (for whom the fewest calls
    wait), `hash:<key>` (the same member for the same key), or `attribute:<name>=<json>` (in turn,
    of those whose durable attribute has this value).
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
    """Tell a component, or members of a group, to run an operation; nobody waits for it.

    A group with a durable mailbox keeps the cast until a member has done it; `id` is the sender's
    name for it then, and casting it again is accepted once.
    """

    target: str
    id: str = ""
    operation: str
    object: str = ""
    inputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)
    selector: str = "any"


class CastResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """To how many components the cast was handed; or 1 and its id, when a mailbox keeps it."""

    accepted: int
    message: str | msgspec.UnsetType = msgspec.UNSET


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
    """Be told of changes: of a group's members, all components, attributes, or signals.

    Exactly one of these fields is given.  Events come as `component.event` notifications with the
    watch's number and the log index; the snapshot in the result is the state at `index`, after
    which no event is missing.  With `since` (and `seen`, how many of the later events are known
    already) exactly the events after it follow, if the hub remembers all of them; else a snapshot.
    """

    group: str | None = None
    components: bool | None = None
    attributes: WatchAttributes | None = None
    signals: WatchSignals | None = None
    since: int | None = None
    seen: int = 0


class WatchResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The watch's number on this connection, the state now, and the log index it is from."""

    watch: int
    snapshot: Any
    index: int
    resumed: bool = False
    """Nothing was missed since `since`; there is no snapshot."""
    volatile: msgspec.UnsetType | bool = msgspec.UNSET
    """Some of it is not in the log."""
    missing: msgspec.UnsetType | dict[str, str] = msgspec.UNSET
    """Components whose volatile attributes could not be read, and why."""


class Unwatch(Params, frozen=True, kw_only=True):
    """End a watch of this connection."""

    watch: int


class MessageMark(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Of an invocation that comes from a durable mailbox: which message, which attempt (from 1)."""

    id: str
    attempt: int


class MailboxClaim(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Of a message from a durable mailbox: the group, and since when the sender is its primary."""

    group: str
    epoch: int


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
    load: bool = False
    """Say in the answer (`load`) how many calls wait for the component."""
    message: MessageMark | msgspec.UnsetType = msgspec.UNSET
    kept: MailboxClaim | msgspec.UnsetType = msgspec.UNSET
    """With `message`: by what right it comes from this node."""


class Forwarded(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What the operation yields."""

    outputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)


class Loads(Params, frozen=True, kw_only=True):
    """From hub to hub: how many calls wait for these components of your node?  Also a ping."""

    components: list[str] = msgspec.field(default_factory=list)


class LoadsResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Waiting calls, of those that are attached."""

    loads: dict[str, int]


class Allow(Params, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Say whether a component may call an operation of another, or of a group, and why.

    `from` is the caller itself; operators may name any component.
    """

    target: str
    operation: str
    object: str = ""
    from_: str = ""


class Side(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One of two components that want to talk; all empty for an operator."""

    component: str
    type: str
    application: str


class Verdict(Message, frozen=True, kw_only=True, omit_defaults=False):
    """May it, for one target; `add` holds, for each type, what its manifest lacks."""

    component: str
    type: str
    application: str
    allowed: bool
    reason: str
    add: dict[str, str] = msgspec.field(default_factory=dict)


class AllowResult(
    Message, frozen=True, kw_only=True, omit_defaults=False, rename={"from_": "from"}
):
    """Allowed: at least one target may be called.  One verdict for each member of a group."""

    allowed: bool
    from_: Side
    targets: list[Verdict]


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
ALLOW = method(119, "hub.allow", Allow, AllowResult)
LOADS = method(134, "hub.loads", Loads, LoadsResult, public=False)
FORWARD = method(130, "hub.forward", Forward, Forwarded, public=False)
