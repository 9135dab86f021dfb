"""The commands that change the section "controller" of the cluster state.  Numbers 400-449.

Each is complete: what it needs and may not fetch while it is applied (time, entropy, the chosen
nodes) is in it or in its stamp.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.raft.command import command


@command(400)
class RegisterType(msgspec.Struct, frozen=True, kw_only=True):
    """A component type: a bundle, and its manifest in canonical form."""

    bundle: str
    manifest: dict[str, Any]
    registered_by: str = ""


@command(401)
class UnregisterType(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a type that no component is of."""

    type: str


@command(402)
class CreateInstances(msgspec.Struct, frozen=True, kw_only=True):
    """Create one component for each of `nodes`, in state `preparing`.

    A node that is empty is chosen later, by the primary of the component's virtual node.

    `request_id`, if given, with `created_by` names the request: repeated, it yields the same ids.
    """

    type: str
    nodes: list[str]
    name: str = ""
    configuration: dict[str, Any] = {}
    groups: list[str] = []
    links: list[str] = []
    restart: str = ""
    constraints: list[str] = []
    request_id: str = ""
    created_by: str = ""


@command(403)
class ChangeInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a component's life-cycle, by who watches it on its node.

    `expected` (a state) and `incarnation` say what the proposer saw; if it is otherwise by now the
    command is a `conflict` and changes nothing.  `facts` are the kernel's for `exited`.
    """

    component: str
    incarnation: int
    event: str
    expected: str = ""
    reason: str = ""
    endpoints: dict[str, Any] | None = None
    facts: dict[str, Any] = {}
    fatal: bool = False


@command(404)
class EndInstance(msgspec.Struct, frozen=True, kw_only=True):
    """From now on the component is wanted to end.

    `mode` is `destroy` (it is stopped, `grace_s` after the signal by force) or `terminate` (it has
    agreed to end by itself).
    """

    component: str
    mode: str = "destroy"
    grace_s: float = 10.0


@command(405)
class LinkInstances(msgspec.Struct, frozen=True, kw_only=True):
    """Tie the lives of two components."""

    a: str
    b: str


@command(406)
class UnlinkInstances(msgspec.Struct, frozen=True, kw_only=True):
    """Untie two components."""

    a: str
    b: str


@command(407)
class ForgetInstance(msgspec.Struct, frozen=True, kw_only=True):
    """Drop the record of a component that has ended for good."""

    component: str


@command(408)
class PlaceInstance(msgspec.Struct, frozen=True, kw_only=True):
    """Give a component that waits for a node this one.

    `by` is the primary of its virtual node, since `ring_epoch`.  Without a `node`: none was found,
    for this `reason`; the component goes on waiting.
    """

    component: str
    incarnation: int
    node: str
    by: str
    ring_epoch: int = 0
    reason: str = ""


@command(409)
class MoveInstance(msgspec.Struct, frozen=True, kw_only=True):
    """Stop this incarnation, which is on `node`; the next one begins without a node.

    `grace_s` after the signal force is used.
    """

    component: str
    incarnation: int
    node: str
    grace_s: float = 10.0


@command(410)
class EmptyNode(msgspec.Struct, frozen=True, kw_only=True):
    """Move everything away from a node that takes nothing new; its components get `grace_s` to end.

    It lasts until the node takes components again or is lost.
    """

    node: str
    grace_s: float = 10.0


@command(411)
class ResizeInstance(msgspec.Struct, frozen=True, kw_only=True):
    """Give a component other bounds, in words of the manifest's section `limits`."""

    component: str
    limits: dict[str, Any]


@command(412)
class FreezeInstance(msgspec.Struct, frozen=True, kw_only=True):
    """From now on the component is to stand still, whatever runs it."""

    component: str


@command(413)
class ThawInstance(msgspec.Struct, frozen=True, kw_only=True):
    """It is to go on.  `ready`: this incarnation was available when it was frozen."""

    component: str
    incarnation: int = 0
    ready: bool = False


@command(414)
class BeginDeparture(msgspec.Struct, frozen=True, kw_only=True):
    """A component is to be asked whether it will end: first let those who send to it let go.

    At most `drain_s` seconds.  Nothing happens when nobody has to be waited for.
    """

    component: str
    incarnation: int
    drain_s: float


@command(415)
class AcknowledgeDeparture(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway sends nothing to this incarnation any more, and waits for nothing of it."""

    component: str
    incarnation: int
    gateway: str
