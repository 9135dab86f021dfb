"""The nodes of the cluster, in the cluster state (section "nodes").  Command numbers 500-519.

What is durable about a node: that it belongs to the cluster, its state, what it has to give, what
people intend with it.  What is only informative (load, free memory at this moment, when its lease
was granted) is not here (architecture, rule 5).

Invariants
  - `epoch` is the log index of a node's last joining, or of its coming under lease: it names one
    life of its agents.  Whoever decides about a node says which life is meant, so a decision that
    comes late hits nobody.
  - A node that was lost joins again only when it says that nothing of the past runs on it.
  - A node is lost only while it is `leased`, which it becomes by its own command, after its fence
    has a deadline; and it is so no more only when it is alone.  Hence a cluster of one node needs
    no lease, and no node without one is ever replaced (leases.py).
  - That the storage of a node is full is known while it is leased only, by what it says with its
    renewals (granting.py); without a lease it counts as having room.
  - The name of a removed node does not come back: certificates that were made out to it may still
    be around.
  - `offline` and `destroyed` mean that nothing runs on the node.  `destroying` does not.

Source: platform document §4.5.2; docs/internals/cluster.md, "Leases".
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.base.fsm import IllegalTransition
from paas.identity.names import check_node
from paas.node import limits
from paas.node.lifecycle import LEASED, NODE, PRESENT, NodeEvent, NodeState
from paas.node.messages import NodeChanged
from paas.raft.command import command
from paas.raft.limits import NAME_BYTES_MAX, VOTERS_MAX
from paas.raft.machine import Context

_E, _S = NodeEvent, NodeState


@command(500)
class ReportNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node says what it is and has, and that its agents begin a new life.  Sizes in bytes.

    `leased`: its fence has a deadline.  `cleared`: nothing of the past runs on it, which a node
    that was lost must be able to say.  `boot` names the run of its kernel: when it is another one,
    what ran on the node has ended, even if the node was never missed.
    """

    node: str
    memory_bytes: int
    cpu: float
    disk_bytes: int = 0
    version: str = ""
    address: str = ""
    boot: str = ""
    bases: list[str] = []
    labels: dict[str, str] = {}
    leased: bool = False
    cleared: bool = False


@command(501)
class ChangeNode(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a node's life-cycle.  With `epoch` above zero only in that life of the node."""

    node: str
    event: str
    reason: str = ""
    epoch: int = 0


@command(502)
class AddNode(msgspec.Struct, frozen=True, kw_only=True):
    """A machine may join under this name; its hub listens at `address` (host:port)."""

    node: str
    address: str


@command(503)
class LoseNode(msgspec.Struct, frozen=True, kw_only=True):
    """The lease of a node is over: nothing runs on it any more.

    `epoch` is the life that the decider saw; `term` is in which it led.  Proposed only by
    whoever grants leases (leases.py), and only as an entry of that term.
    """

    node: str
    epoch: int
    term: int


@command(504)
class RemoveNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node leaves the cluster for good.  With `force` though components are placed on it."""

    node: str
    force: bool = False
    reason: str = ""


@command(505)
class LeaseNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node says that its fence has a deadline from now on, or asks to need none any more."""

    node: str
    leased: bool


@command(506)
class DrainNode(msgspec.Struct, frozen=True, kw_only=True):
    """A person wants a node empty (which cordons it as well), or no longer so."""

    node: str
    draining: bool
    reason: str = ""


@command(507)
class NodeStorage(msgspec.Struct, frozen=True, kw_only=True):
    """The disk of a node's hub is full, or has room again; in that life of the node.

    Such a hub takes no entries any more: it does not hear what is placed on its node, and decides
    from what it knew before.
    """

    node: str
    epoch: int
    full: bool


@command(508)
class WantVoters(msgspec.Struct, frozen=True, kw_only=True):
    """So many nodes vote in the replicated log, if there are as many: an odd number."""

    voters: int


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
    address: str = ""
    boot: str = ""
    bases: list[str] = []
    labels: dict[str, str] = {}
    cordoned: bool = False
    """A person wants nothing new placed on it; holds over restarts and losses."""

    draining: bool = False
    epoch: int = 0
    lost_index: int = 0
    """Log index of its last loss; 0: never."""

    leased: bool = False
    storage_full: bool = False

    @property
    def present(self) -> bool:
        """In touch: components may run on it, and virtual nodes are dealt to it."""
        return self.state in PRESENT

    @property
    def placeable(self) -> bool:
        """May be given new components."""
        return self.present and not self.cordoned and not self.storage_full


# Steps that anybody may propose; the others have commands of their own, with their conditions.
_CHANGES = (
    *(_E.ACQUIRE, _E.BOOT, _E.REFUSE, _E.READY, _E.GIVE_UP, _E.CLEARED),
    *(_E.MARK_UNAVAILABLE, _E.MARK_AVAILABLE),
)


class NodeRegister:
    """The section "nodes".  See the module's text."""

    name = "nodes"
    hears: tuple[type, ...] = ()

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._removed: dict[str, None] = {}  # names, oldest first
        self.voters_wanted = limits.VOTERS_DEFAULT
        self.commands = {
            ReportNode: self._report,
            ChangeNode: self._change,
            AddNode: self._add,
            LoseNode: self._lose,
            RemoveNode: self._remove,
            LeaseNode: self._lease,
            DrainNode: self._drain,
            NodeStorage: self._storage,
            WantVoters: self._want_voters,
        }

    # -- what others read ------------------------------------------------------------------------

    def nodes(self) -> list[Node]:
        """All nodes, by name; removed ones are not here."""
        return [self._nodes[name] for name in sorted(self._nodes)]

    def get(self, name: str) -> Node | None:
        return self._nodes.get(name)

    def alone(self, name: str) -> bool:
        """Is this the only node that there is?"""
        return name in self._nodes and len(self._nodes) == 1

    def removed(self, name: str) -> bool:
        """Was a node of this name removed?  Its certificate is worth nothing any more."""
        return name in self._removed

    @property
    def removed_names(self) -> Collection[str]:
        """The names that `removed` knows, oldest first."""
        return self._removed.keys()

    # -- coming ----------------------------------------------------------------------------------

    def _add(self, cmd: AddNode, ctx: Context) -> dict[str, Any]:
        _check_name(cmd.node)
        _check_address(cmd.address)
        known = self._nodes.get(cmd.node)
        if known is not None:
            if known.state is _S.PREPARING and known.address == cmd.address:
                return {"node": cmd.node}
            raise PlatformError(
                "conflict",
                f"there is a node {cmd.node!r} already",
                hint="give this one another name",
                state=str(known.state),
            )
        self._check_new(cmd.node)
        self._nodes[cmd.node] = Node(
            name=cmd.node, state=_S.NONE, since_ms=ctx.stamp.time_ms, address=cmd.address
        )
        self._move(cmd.node, _E.BOOT, "", ctx)
        return {"node": cmd.node}

    def _check_new(self, name: str) -> None:
        if name in self._removed:
            raise PlatformError(
                "conflict",
                f"a node {name!r} was removed from this cluster",
                hint="give the new one another name",
            )
        if len(self._nodes) >= limits.NODES_MAX:
            raise PlatformError("limit-exceeded", f"a cluster has {limits.NODES_MAX} nodes at most")

    def _report(self, cmd: ReportNode, ctx: Context) -> dict[str, Any]:
        _check_report(cmd)
        known = self._nodes.get(cmd.node)
        if known is None:
            self._check_new(cmd.node)
            known = Node(name=cmd.node, state=_S.NONE, since_ms=ctx.stamp.time_ms)
        _next(known, _E.JOIN)
        leased = cmd.leased or (known.leased and known.state in LEASED)
        if known.state not in PRESENT and known.epoch and not cmd.cleared:
            raise PlatformError(
                "conflict",
                f"node {cmd.node!r} was lost: what ran on it has to end before it joins again",
                state=str(known.state),
            )
        self._nodes[cmd.node] = msgspec.structs.replace(
            known,
            memory_bytes=cmd.memory_bytes,
            cpu=cmd.cpu,
            disk_bytes=cmd.disk_bytes,
            version=cmd.version,
            address=cmd.address or known.address,
            boot=cmd.boot,
            bases=cmd.bases,
            labels=cmd.labels,
            epoch=ctx.index,
            leased=leased,
            storage_full=known.storage_full and leased,
        )
        rebooted = known.present and bool(known.boot and cmd.boot) and known.boot != cmd.boot
        reason = known.reason if known.cordoned else ""
        self._move(cmd.node, _E.JOIN, reason, ctx, rebooted=rebooted)
        return {"epoch": ctx.index}

    # -- changing --------------------------------------------------------------------------------

    def _change(self, cmd: ChangeNode, ctx: Context) -> None:
        node = self._known(cmd.node)
        try:
            event = NodeEvent(cmd.event)
        except ValueError:
            raise invalid("event", f"expected one of {', '.join(_CHANGES)}") from None
        if event not in _CHANGES:
            raise invalid("event", f"{event} has a command of its own")
        if cmd.epoch and cmd.epoch != node.epoch:
            raise PlatformError("conflict", f"node {cmd.node!r} has joined anew meanwhile")
        if event in (_E.MARK_UNAVAILABLE, _E.MARK_AVAILABLE):
            self._cordon(node, event is _E.MARK_UNAVAILABLE, cmd.reason, ctx)
            return
        if event is _E.READY and node.cordoned and node.state is _S.INITIALIZING:
            event = _E.MARK_UNAVAILABLE
        self._move(cmd.node, event, cmd.reason or node.reason, ctx)

    def _cordon(self, node: Node, cordoned: bool, reason: str, ctx: Context) -> None:
        """Remember the intent; the state follows if the node is in use at the moment."""
        if node.state is _S.DESTROYING:
            raise PlatformError("conflict", f"node {node.name!r} is being removed")
        draining = node.draining and cordoned
        self._nodes[node.name] = msgspec.structs.replace(
            node, cordoned=cordoned, draining=draining, reason=reason
        )
        if cordoned and node.state is _S.AVAILABLE:
            self._move(node.name, _E.MARK_UNAVAILABLE, reason, ctx)
        elif not cordoned and node.state is _S.UNAVAILABLE:
            self._move(node.name, _E.MARK_AVAILABLE, reason, ctx)

    def _drain(self, cmd: DrainNode, ctx: Context) -> None:
        node = self._known(cmd.node)
        if cmd.draining:
            self._cordon(node, True, cmd.reason, ctx)
            node = self._nodes[cmd.node]
        self._nodes[cmd.node] = msgspec.structs.replace(node, draining=cmd.draining)

    def _lease(self, cmd: LeaseNode, ctx: Context) -> None:
        node = self._known(cmd.node)
        if not cmd.leased and not self.alone(cmd.node):
            raise PlatformError("conflict", f"node {cmd.node!r} is not alone: it needs a lease")
        if node.state not in PRESENT:
            raise PlatformError("conflict", f"node {cmd.node!r} is {node.state}")
        epoch = ctx.index if cmd.leased else node.epoch
        self._nodes[cmd.node] = msgspec.structs.replace(node, leased=cmd.leased, epoch=epoch)
        if not cmd.leased:
            self._set_storage(cmd.node, False, ctx)

    def _storage(self, cmd: NodeStorage, ctx: Context) -> None:
        node = self._known(cmd.node)
        if node.epoch != cmd.epoch or not (node.present and node.leased):
            raise PlatformError("conflict", f"node {cmd.node!r} is not what the decider saw")
        self._set_storage(cmd.node, cmd.full, ctx)

    def _set_storage(self, name: str, full: bool, ctx: Context) -> None:
        node = self._nodes[name]
        if node.storage_full is not full:
            self._nodes[name] = msgspec.structs.replace(node, storage_full=full)
            self._tell(self._nodes[name], node.state, node.reason, ctx)

    def _want_voters(self, cmd: WantVoters, _ctx: Context) -> None:
        if not 1 <= cmd.voters <= VOTERS_MAX or cmd.voters % 2 == 0:
            raise invalid("voters", f"expected an odd number from 1 to {VOTERS_MAX}")
        self.voters_wanted = cmd.voters

    # -- going -----------------------------------------------------------------------------------

    def _lose(self, cmd: LoseNode, ctx: Context) -> None:
        node = self._known(cmd.node)
        if node.epoch != cmd.epoch or node.state not in LEASED or not node.leased:
            raise PlatformError(
                "conflict",
                f"node {cmd.node!r} is not what the decider saw",
                state=str(node.state),
                epoch=node.epoch,
            )
        self._nodes[cmd.node] = msgspec.structs.replace(
            node, lost_index=ctx.index, leased=False, storage_full=False
        )
        self._move(cmd.node, _E.LOSE, "lease-expired", ctx)

    def _remove(self, cmd: RemoveNode, ctx: Context) -> None:
        node = self._known(cmd.node)
        if node.state is _S.DESTROYING:
            return  # it is on its way
        if all(n is node or n.state is _S.DESTROYING for n in self._nodes.values()):
            raise PlatformError("conflict", "the only node of a cluster cannot be removed")
        if node.present and not cmd.force:
            self._check_empty(node, ctx)
        if node.state is _S.AVAILABLE:
            self._move(cmd.node, _E.MARK_UNAVAILABLE, cmd.reason, ctx)
        self._move(cmd.node, _E.DESTROY, cmd.reason, ctx)
        # Components may have run on a node that was present until its lease is over, or until it
        # says that it is empty.  Without a lease nobody but the person who forces can know; but its
        # hub may vote, and the leader says when it does so no more (granting.py).  Only of one that
        # never joined there is nothing to wait for.
        if not node.epoch:
            self._move(cmd.node, _E.CLEARED, cmd.reason, ctx)

    def _check_empty(self, node: Node, ctx: Context) -> None:
        controller = ctx.sections.get("controller")
        placed = controller.loads.count(node.name) if controller is not None else 0
        if placed:
            raise PlatformError(
                "conflict",
                f"{placed} components are on node {node.name!r}",
                hint=f"empty it first: paas nodes drain {node.name}",
                components=placed,
            )
        volumes = ctx.sections.get("volumes")
        held = volumes.held_on(node.name) if volumes is not None else 0
        if held:
            raise PlatformError(
                "conflict",
                f"volumes of {held} components are on node {node.name!r} only",
                hint=f"move them away first: paas nodes drain {node.name}; paas volumes list",
                volumes=held,
            )
        if not node.leased:
            raise PlatformError(
                "conflict",
                f"node {node.name!r} has no lease yet: nobody would know when it has ended",
                hint="try again in a moment",
            )

    # -- common ----------------------------------------------------------------------------------

    def _known(self, name: str) -> Node:
        node = self._nodes.get(name)
        if node is None:
            raise PlatformError(
                "no-such-target", f"no node is called {name!r}", hint="list them: paas nodes"
            )
        return node

    def _move(
        self, name: str, event: NodeEvent, reason: str, ctx: Context, *, rebooted: bool = False
    ) -> None:
        node = self._nodes[name]
        state = _next(node, event)
        if state is node.state and event is not _E.JOIN:
            return
        if state is _S.DESTROYED:
            del self._nodes[name]
            self._removed[name] = None
            while len(self._removed) > limits.REMOVED_NAMES_MAX:
                del self._removed[next(iter(self._removed))]
        else:
            self._nodes[name] = msgspec.structs.replace(
                node, state=state, since_ms=ctx.stamp.time_ms, reason=reason
            )
        now = msgspec.structs.replace(node, state=state)
        self._tell(now, node.state, reason, ctx, rebooted=rebooted)

    @staticmethod
    def _tell(
        node: Node, previous: NodeState, reason: str, ctx: Context, *, rebooted: bool = False
    ) -> None:
        ctx.emit(
            NodeChanged(
                node=node.name,
                state=str(node.state),
                previous=str(previous),
                reason=reason,
                index=ctx.index,
                time_ms=ctx.stamp.time_ms,
                epoch=node.epoch,
                storage_full=node.storage_full,
                rebooted=rebooted,
            )
        )

    def react(self, event: Any, ctx: Context) -> None:
        """Nothing that happens elsewhere changes a node."""

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return {
            "nodes": [msgspec.to_builtins(node) for node in self.nodes()],
            "removed": list(self._removed),
            "voters": self.voters_wanted,
        }

    def restore(self, plain: Any) -> None:
        if isinstance(plain, list):  # as written before nodes could be removed
            plain = {"nodes": plain, "removed": []}
        nodes = msgspec.convert(plain["nodes"], list[Node])
        self._nodes = {node.name: node for node in nodes}
        for node in nodes:  # the state was the only sign of the intent then
            if node.state is _S.UNAVAILABLE and not node.cordoned:
                self._nodes[node.name] = msgspec.structs.replace(node, cordoned=True)
        self._removed = dict.fromkeys(plain["removed"])
        self.voters_wanted = plain.get("voters", limits.VOTERS_DEFAULT)


def _next(node: Node, event: NodeEvent) -> NodeState:
    try:
        return NODE.next(node.state, event)
    except IllegalTransition as exc:
        raise PlatformError("conflict", str(exc), state=str(node.state)) from None


def _check_name(name: str) -> None:
    check_node(name)
    if len(name.encode()) > NAME_BYTES_MAX:
        raise invalid("node", f"at most {NAME_BYTES_MAX} characters")


def _check_report(cmd: ReportNode) -> None:
    if cmd.memory_bytes < 0 or cmd.cpu < 0 or cmd.disk_bytes < 0:
        raise invalid("memory_bytes", "sizes are not negative")
    texts = [*cmd.bases, *cmd.labels, *cmd.labels.values()]
    if len(cmd.labels) > limits.LABELS_MAX or len(cmd.bases) > limits.LABELS_MAX:
        raise invalid("labels", f"at most {limits.LABELS_MAX} labels and as many bases")
    if any(len(text) > limits.LABEL_LENGTH_MAX for text in texts):
        raise invalid("labels", f"at most {limits.LABEL_LENGTH_MAX} characters each")
    if cmd.address:
        _check_address(cmd.address)


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isascii() or not port.isdigit():
        raise invalid("address", "expected host:port")
    if not 0 < int(port) < 1 << 16 or len(address) > limits.LABEL_LENGTH_MAX:
        raise invalid("address", "expected host:port, the port below 65536")
