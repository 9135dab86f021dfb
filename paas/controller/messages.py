"""Every message of the component controller (component API, "controller"; platform §4.7.3).

Numbers 400-499.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from paas.wire.registry import Message, Nothing, Params, method


class RegisterType(Params, frozen=True, kw_only=True):
    """Register a component type: one version of one bundle, plus its manifest.

    The manifest is given as in `component.toml`.  Repeating it is harmless; the same name and
    version with another bundle is a `conflict`.
    """

    bundle: str
    manifest: dict[str, Any]


class TypeName(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The type's full name, `name@version`."""

    type: str


class UnregisterType(Params, frozen=True, kw_only=True):
    """Forget a type; refused (`conflict`) while components of it exist."""

    type: str


class ListTypes(Params, frozen=True, kw_only=True):
    """List the registered types."""


class DescribeType(Params, frozen=True, kw_only=True):
    """Describe a type: `name@version`, or `name` for its newest registration."""

    type: str


class TypeInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One component type.  `since` in seconds since the Unix epoch."""

    type: str
    name: str
    version: str
    bundle: str
    manifest: dict[str, Any]
    since: float
    running: int


class Types(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The types, by name and time of registration.

    `stale_s`: the answering node is cut off from the majority, and has known nothing newer for this
    many seconds.
    """

    types: list[TypeInfo]
    stale_s: float | None = None


class Create(Params, frozen=True, kw_only=True):
    """Create components of a type, and by default wait until they are available.

    `name` must be free (with `count` above 1 the components are called name-1, name-2, …).
    `links` are components whose lives are tied to the new one's.  `restart` overrides the
    manifest's policy.  `wait`: `available`, or `accepted` to return once the log has the command.
    `request_id` makes a repetition harmless: the same ids come back.
    """

    type: str
    count: int = 1
    name: str = ""
    configuration: dict[str, Any] = {}
    groups: list[str] = []
    links: list[str] = []
    restart: Literal["permanent", "transient", "temporary"] | None = None
    constraints: list[str] = []
    wait: Literal["available", "accepted"] = "available"
    request_id: str = ""


class Created(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The new components' identifiers."""

    components: list[str]


class TerminateComponent(Params, frozen=True, kw_only=True):
    """Ask a component to end; it may refuse, with a reason."""

    component: str
    inputs: Any = {}


class TerminateAnswer(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Whether the component accepted, and its reason if not."""

    accepted: bool
    reason: str = ""


class Destroy(Params, frozen=True, kw_only=True):
    """End a component: a signal, `grace` seconds, then force.  Answers when nothing is left."""

    component: str
    grace: float = 10.0


class ListComponents(Params, frozen=True, kw_only=True):
    """List components; `filter` by type, group, name, state or node; `all` includes ended ones."""

    filter: dict[str, str] = {}
    all: bool = False


class DescribeComponent(Params, frozen=True, kw_only=True):
    """Describe a component: by id, id prefix (8 digits or more) or name."""

    component: str


class ComponentInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One component.  `since` in seconds since the Unix epoch; `memory` in bytes now, if known.

    `endpoints`: name to `{protocol, host, port}`.  `reason` is why it last ended or failed, or why
    there is no node for it (`no-placement: …`); its `node` is empty then.
    """

    id: str
    name: str
    type: str
    state: str
    since: float
    node: str
    restarts: int
    reason: str
    endpoints: dict[str, Any]
    groups: list[str]
    links: list[str] = []
    restart: str = "permanent"
    created: float = 0.0
    memory: int | None = None
    pid: int | None = None


class ComponentDetail(ComponentInfo, frozen=True, kw_only=True, omit_defaults=False):
    """One component, alone.  `stale_s` as in a list of components."""

    stale_s: float | None = None


class Components(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The components, by time of creation.

    `stale_s`: the answering node is cut off from the majority, and has known nothing newer for this
    many seconds.
    """

    components: list[ComponentInfo]
    stale_s: float | None = None


class Monitor(Params, frozen=True, kw_only=True):
    """Be told once, with the reason, when a component ends; at once if it has ended already.

    `incarnation`, when above zero, is the one that the caller knows of: the notice comes at once
    if that one is over, even if a later one runs by now (for who renews a monitor).
    """

    component: str
    incarnation: int = 0


class MonitorResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The watch on which the one `down` event will come, and the incarnation it is about."""

    watch: int
    incarnation: int = 0


class Link(Params, frozen=True, kw_only=True):
    """Tie the lives of two components: an abnormal end of one ends the other."""

    a: str
    b: str


class Unlink(Params, frozen=True, kw_only=True):
    """Untie two components."""

    a: str
    b: str


class Status(Params, frozen=True, kw_only=True):
    """The state of the cluster: nodes, leader, log, numbers of types and components."""


class StatusResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What `paas status` shows."""

    cluster: str
    version: str
    nodes: list[dict[str, Any]]
    log: dict[str, Any]
    types: int
    components: dict[str, int]
    hub: dict[str, Any] = msgspec.field(default_factory=dict)
    stale_s: float | None = None
    url: str = ""
    """Where the answering node serves programs outside (HTTPS, WebSocket); empty: it does not."""


class DrainNode(Params, frozen=True, kw_only=True):
    """Empty a node: nothing new is placed on it, and its components move to others, a few at a
    time.

    Each gets `grace` seconds to end, then force is used; its next copy starts when it has ended.
    Answers when none is left, or at the deadline with those that are; it goes on all the same,
    until the node takes components again (`nodes.uncordon`).
    """

    node: str
    grace: float = 10.0


class Drained(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How many components are left on the node; the first of them, and what they wait for."""

    node: str
    left: int
    components: dict[str, str] = msgspec.field(default_factory=dict)


class GetFigures(Params, frozen=True, kw_only=True):
    """Memory and processes of the components of this node, for the hub of another one."""


class Figure(Message, frozen=True, kw_only=True):
    """Memory in bytes, and process number on its node, of one component."""

    memory: int | None = None
    pid: int | None = None


class Figures(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Component to figure, of those that run."""

    figures: dict[str, Figure]


class TerminateHere(Params, frozen=True, kw_only=True):
    """Ask a component of this node to end, for the hub of another one."""

    component: str
    inputs: Any = {}


class Resize(Params, frozen=True, kw_only=True):
    """Give a component other bounds while it runs, in words of the manifest's section `limits`:
    memory, cpu, pids, io, cpu_weight (the disk keeps its size).

    They are in force when it answers, and hold over restarts.  Less memory than is in use is
    refused (`conflict`), and nothing changes then.
    """

    component: str
    limits: dict[str, Any]


class Resized(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All bounds of the component as they hold now: bytes, cores."""

    component: str
    limits: dict[str, Any]


class Freeze(Params, frozen=True, kw_only=True):
    """Stop a component where it is, until it is thawed: it is `unavailable`, reason `frozen`.

    A call that names it waits until its own deadline; groups pass it over.
    """

    component: str


class Thaw(Params, frozen=True, kw_only=True):
    """Let a frozen component go on."""

    component: str


class Frozen(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The component's state, and whether it stands still."""

    component: str
    state: str
    frozen: bool


class Why(Params, frozen=True, kw_only=True):
    """Say why a component is as it is: how it ended, with the kernel's figures, and what follows.

    `component` as in `controller.component`; it works for ended ones while they are remembered.
    """

    component: str


class Explanation(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Sentences for people, the kernel's facts of its last end, and its newest log lines."""

    component: str
    state: str
    reason: str
    text: list[str]
    facts: dict[str, Any]
    log: list[str]


REGISTER_TYPE = method(400, "controller.register_type", RegisterType, TypeName)
UNREGISTER_TYPE = method(401, "controller.unregister_type", UnregisterType, Nothing)
TYPES = method(402, "controller.types", ListTypes, Types)
TYPE = method(403, "controller.type", DescribeType, TypeInfo)
CREATE = method(404, "controller.create", Create, Created)
TERMINATE = method(405, "controller.terminate", TerminateComponent, TerminateAnswer)
DESTROY = method(406, "controller.destroy", Destroy, Nothing)
COMPONENTS = method(407, "controller.components", ListComponents, Components)
COMPONENT = method(408, "controller.component", DescribeComponent, ComponentDetail)
MONITOR = method(409, "controller.monitor", Monitor, MonitorResult)
LINK = method(410, "controller.link", Link, Nothing)
UNLINK = method(411, "controller.unlink", Unlink, Nothing)
STATUS = method(412, "cluster.status", Status, StatusResult)
FIGURES = method(413, "controller.figures", GetFigures, Figures, public=False)
TERMINATE_HERE = method(
    414, "controller.terminate_here", TerminateHere, TerminateAnswer, public=False
)
FREEZE = method(415, "controller.freeze", Freeze, Frozen)
THAW = method(416, "controller.thaw", Thaw, Frozen)
RESIZE = method(426, "controller.resize", Resize, Resized)
WHY = method(427, "controller.why", Why, Explanation)
DRAIN_NODE = method(419, "nodes.drain", DrainNode, Drained)


# -- Events of the cluster state -------------------------------------------------------------------
#
# What applying the commands of `controller.state` announces, on every replica, in the same order.
# Other sections react to them (groups: join when available, leave at the end), agents act on them.


class TypeRegistered(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component type exists now; its bundle has one reference more."""

    type: str
    bundle: str


class TypeUnregistered(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component type is forgotten; its bundle has one reference less."""

    type: str
    bundle: str


class ComponentCreated(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component exists now, on a node or (empty) waiting for one; nothing runs yet."""

    component: str
    name: str
    type: str
    node: str
    groups: list[str]
    created_by: str
    index: int
    time_ms: int


class ComponentChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component is in another state of its life-cycle."""

    component: str
    incarnation: int
    state: str
    previous: str
    reason: str
    index: int
    time_ms: int


class ComponentEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: one incarnation of a component is over, exactly once each; it comes before the change
    to `destroying`.  `because` is the linked component whose end caused this one.
    """

    component: str
    incarnation: int
    reason: str
    will_restart: bool
    because: str
    index: int
    time_ms: int


class ComponentPlaced(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component that waited for a node, in state `preparing`, has one."""

    component: str
    incarnation: int
    node: str
    index: int
    time_ms: int


class EmptyingChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a node is to be emptied from now on, or no longer."""

    node: str
    emptying: bool


class ComponentOrdered(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component is wanted to end or to move from now on, or sooner than before."""

    component: str
    mode: str
    grace_s: float


class ComponentAdjusted(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component has other bounds, or is to stand still or to go on, from now on."""

    component: str


class DepartureChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component that leaves waits for this many gateways."""

    component: str
    waiting: int


class ComponentForgotten(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: the record of a component that ended for good is gone."""

    component: str
