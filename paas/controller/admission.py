"""May this be created, or placed there, now?  What is checked when a command is applied.

Also what is checked of a request before that, so that its error names the field.

    plan (any hub, from its replica) ──> command ──> check against the state as it is ──> applied
                                                          └──> conflict: plan again

Plans are made on different nodes at the same time and from replicas of different age.  So whoever
planned is not trusted to have been right: a node must still take components and have room, and who
places a component that has no node must be the primary of its virtual node, in the epoch it says.
A primary of the past decides nothing, and a node is never given more than it may have.

Sections of other sub-systems are asked by what they answer, not by what they are.  A machine
without them (a cluster of one, a test) has nothing to check.  Documents: internals/cluster.md, "The
ring"; architecture §6, §7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paas.base import ids
from paas.base.errors import PlatformError, invalid
from paas.controller import commands, limits, messages, restarts
from paas.controller.instances import Instance, Instances, check_name, names_for
from paas.controller.links import Links
from paas.controller.loads import Loads
from paas.scheduler.client import Load, room
from paas.scheduler.messages import Needs, NodeView
from paas.wire import codec

ONLINE = frozenset({"initializing", "available", "unavailable"})
"""States of a node that is there.  One that starts again may be given work already."""

CORDONED = "unavailable"
"""The state of a node that a person took out of use: what runs there goes on, nothing comes."""

LOST = frozenset({"offline", "failed", "destroyed"})
"""States of a node of which nothing is left, as far as the cluster is concerned."""

DOMAIN_LABEL = "domain"
"""The label that names the failure domain of a node."""

OUT_OF_DATE = "placement is out of date"


def node_view(record: Any) -> NodeView:
    """A node of the section "nodes" as the scheduler wants it."""
    return NodeView(
        name=record.name,
        memory_bytes=record.memory_bytes,
        cpu=record.cpu,
        disk_bytes=record.disk_bytes,
        online=str(record.state) in ONLINE,
        bases=tuple(getattr(record, "bases", ())) or ("host",),
        cordoned=str(record.state) == CORDONED or bool(getattr(record, "cordoned", False)),
        storage_full=bool(getattr(record, "storage_full", False)),
        domain=getattr(record, "labels", {}).get(DOMAIN_LABEL, ""),
    )


def view_of(sections: Mapping[str, Any], node: str) -> NodeView | None:
    """The node as the cluster state has it; None if it is no member."""
    record = sections["nodes"].get(node)
    return None if record is None else node_view(record)


def check_request(params: messages.Create) -> None:
    """Bounds of a request to create; each error names its field."""
    if not 1 <= params.count <= limits.CREATE_COUNT_MAX:
        raise invalid("count", f"expected 1 to {limits.CREATE_COUNT_MAX}", param="count")
    if params.name:
        for name in names_for(params.name, params.count):
            check_name(name)
    if len(params.groups) > limits.GROUPS_OF_COMPONENT_MAX:
        raise invalid("groups", f"expected at most {limits.GROUPS_OF_COMPONENT_MAX}")
    for group in params.groups:
        if not 0 < len(group) <= limits.GROUP_LENGTH_MAX or not group.isprintable() or ":" in group:
            raise invalid(
                "groups",
                f"a group name has 1 to {limits.GROUP_LENGTH_MAX} printable characters, no colon",
                param="groups",
            )
    if len(params.links) > limits.LINKS_OF_COMPONENT_MAX:
        raise invalid("links", f"expected at most {limits.LINKS_OF_COMPONENT_MAX}", param="links")
    if len(params.constraints) > limits.CONSTRAINTS_MAX:
        raise invalid("constraints", f"expected at most {limits.CONSTRAINTS_MAX}")
    if len(params.request_id) > limits.REQUEST_ID_LENGTH_MAX:
        raise invalid("request_id", f"expected at most {limits.REQUEST_ID_LENGTH_MAX} characters")
    size = len(codec.pack(params.configuration))
    if size > limits.CONFIGURATION_BYTES_MAX:
        raise invalid(
            "configuration",
            f"expected at most {limits.CONFIGURATION_BYTES_MAX} bytes, got {size}",
            param="configuration",
        )


def check_creation(cmd: commands.CreateInstances, instances: Instances) -> None:
    """Bounds of a creation."""
    if not 1 <= len(cmd.nodes) <= limits.CREATE_COUNT_MAX:
        raise invalid("count", f"expected 1 to {limits.CREATE_COUNT_MAX}", param="count")
    if cmd.restart and cmd.restart not in restarts.POLICIES:
        raise invalid("restart", f"expected one of {', '.join(restarts.POLICIES)}")
    if instances.living() + len(cmd.nodes) > limits.COMPONENTS_MAX:
        raise PlatformError(
            "limit-exceeded", f"a cluster has {limits.COMPONENTS_MAX} components at most"
        )


def check_links(
    peers: Sequence[str], count: int, links: Links, living: Callable[[str], Instance]
) -> None:
    """Can `count` new components be tied to each of these?"""
    for peer in peers:
        instance = living(peer)
        if links.count(instance.id) + count > limits.LINKS_OF_COMPONENT_MAX:
            raise too_many_links(instance)


def too_many_links(instance: Instance) -> PlatformError:
    return PlatformError(
        "limit-exceeded", f"{instance.short} has {limits.LINKS_OF_COMPONENT_MAX} links at most"
    )


def check_names(names: Sequence[str], instances: Instances) -> None:
    """Each name is one, and free."""
    for name in filter(None, names):
        check_name(name)
        holder = instances.holder(name)
        if holder is not None:
            raise PlatformError(
                "conflict",
                f"the name {name!r} belongs to {holder[:8]}",
                hint="choose another name, or destroy that component",
                name=name,
                component=holder,
            )


def check_room(
    sections: Mapping[str, Any], loads: Loads, type_name: str, needs: Needs, nodes: Sequence[str]
) -> None:
    """Can these nodes take one component each (a node may be there several times)?"""
    if "nodes" not in sections:
        return
    sums: dict[str, Load] = {}
    for node in filter(None, nodes):
        if node not in sums:
            sums[node] = loads.of(node)
        view = view_of(sections, node)
        why = ("is no node of the cluster",) if view is None else room(view, sums[node], needs)
        if why:
            raise PlatformError(
                "conflict",
                f"{OUT_OF_DATE}: {node}: {', '.join(why)}",
                hint="repeat the request",
                placement=True,
                nodes={node: list(why)},
            )
        sums[node].add(type_name, needs)


def is_out_of_date(error: PlatformError) -> bool:
    """Was a command refused only because the plan behind it was overtaken?"""
    return error.code == "conflict" and error.data.get("placement") is True


def check_primary(sections: Mapping[str, Any], component: str, by: str, epoch: int) -> None:
    """Does `by` decide about this component, and since that epoch?"""
    ring = sections.get("ring")
    if ring is None:
        return
    number = ids.virtual_node(ids.Id(component))
    primary, since = ring.primary(number), ring.epoch(number)
    if primary != by or since != epoch:
        raise PlatformError(
            "conflict",
            f"{by} with epoch {epoch} does not decide about {component[:8]}:"
            f" {primary or 'nobody'} does, since epoch {since}",
            primary=primary or "",
            epoch=since,
        )


def may_empty(sections: Mapping[str, Any], node: str) -> bool:
    """Is it there, and takes nothing new?"""
    if "nodes" not in sections:
        return True
    view = view_of(sections, node)
    return view is not None and view.online and view.cordoned


def check_emptying(sections: Mapping[str, Any], node: str) -> None:
    """Raises if the node cannot be emptied."""
    if may_empty(sections, node):
        return
    view = view_of(sections, node)
    if view is None:
        raise PlatformError("no-such-target", f"no node is called {node[:64]!r}")
    raise PlatformError(
        "conflict",
        f"the node {node} takes components" if view.online else f"the node {node} is not there",
        hint=f"first: paas nodes cordon {node}" if view.online else "",
    )
