"""The nodes of the cluster, in the cluster state (section "nodes").  Command numbers 500-519.

What is durable about a node: that it belongs to the cluster, its state, what it has to give.  What
is only informative (load, free memory at this moment) is not here (architecture, rule 5).
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.base.fsm import IllegalTransition
from paas.node.lifecycle import NODE, NodeEvent, NodeState
from paas.raft.command import command
from paas.raft.machine import Context


@command(500)
class ReportNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node says what it is and has; one that is new becomes a member.  Sizes in bytes."""

    node: str
    memory_bytes: int
    cpu: float
    disk_bytes: int = 0
    version: str = ""


@command(501)
class ChangeNode(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a node's life-cycle."""

    node: str
    event: str
    reason: str = ""


class NodeChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a node is in another state."""

    node: str
    state: str
    previous: str
    reason: str
    index: int
    time_ms: int


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the cluster."""

    name: str
    state: NodeState
    since_ms: int
    memory_bytes: int = 0
    cpu: float = 0.0
    disk_bytes: int = 0
    version: str = ""
    reason: str = ""


class NodeRegister:
    """The section "nodes"."""

    name = "nodes"

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self.commands = {ReportNode: self._report, ChangeNode: self._change}

    def nodes(self) -> list[Node]:
        """All nodes, by name."""
        return [self._nodes[name] for name in sorted(self._nodes)]

    def get(self, name: str) -> Node | None:
        return self._nodes.get(name)

    def _report(self, cmd: ReportNode, ctx: Context) -> None:
        if cmd.memory_bytes < 0 or cmd.cpu < 0 or cmd.disk_bytes < 0:
            raise invalid("memory_bytes", "sizes are not negative")
        known = self._nodes.get(cmd.node)
        if known is None:
            known = Node(name=cmd.node, state=NodeState.NONE, since_ms=ctx.stamp.time_ms)
        self._nodes[cmd.node] = msgspec.structs.replace(
            known,
            memory_bytes=cmd.memory_bytes,
            cpu=cmd.cpu,
            disk_bytes=cmd.disk_bytes,
            version=cmd.version,
        )
        self._move(cmd.node, NodeEvent.JOIN, "", ctx)

    def _change(self, cmd: ChangeNode, ctx: Context) -> None:
        if cmd.node not in self._nodes:
            raise PlatformError("no-such-target", f"no node is called {cmd.node!r}")
        try:
            event = NodeEvent(cmd.event)
        except ValueError:
            raise invalid("event", f"expected one of {', '.join(NodeEvent)}") from None
        self._move(cmd.node, event, cmd.reason, ctx)

    def _move(self, name: str, event: NodeEvent, reason: str, ctx: Context) -> None:
        node = self._nodes[name]
        try:
            state = NODE.next(node.state, event)
        except IllegalTransition as exc:
            raise PlatformError("conflict", str(exc), state=str(node.state)) from None
        if state is node.state:
            return
        self._nodes[name] = msgspec.structs.replace(
            node, state=state, since_ms=ctx.stamp.time_ms, reason=reason
        )
        ctx.emit(
            NodeChanged(
                node=name,
                state=str(state),
                previous=str(node.state),
                reason=reason,
                index=ctx.index,
                time_ms=ctx.stamp.time_ms,
            )
        )

    def react(self, event: Any, ctx: Context) -> None:
        """Nothing that happens elsewhere changes a node."""

    def snapshot(self) -> Any:
        return [msgspec.to_builtins(node) for node in self.nodes()]

    def restore(self, plain: Any) -> None:
        nodes = msgspec.convert(plain, list[Node])
        self._nodes = {node.name: node for node in nodes}
