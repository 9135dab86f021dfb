"""The answers to operators' questions about nodes, and their orders (messages.py).

Reading is answered from this replica's state, marked with its age when no leader is heard.  Orders
are commands of the log; that a node is removed without the log losing its majority is checked
here, by whoever leads or knows the configuration, before the command is proposed (membership.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.node import messages
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode, Node, NodeRegister, RemoveNode, WantVoters
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Nothing


class Log(Protocol):
    """The replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    def status(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What others know about nodes; asked anew each time."""

    components: Callable[[str], int]
    virtual_nodes: Callable[[str], int]
    lease_age_s: Callable[[str], float | None]
    behind: Callable[[str], int | None]
    staleness: Callable[[], float | None]
    refusal: Callable[[str], str]
    """Why the log could not do without this node; empty if it can."""

    change: Callable[[], str]
    """What is about to change among the members of the log."""


class NodesApi:
    """See the module's text."""

    def __init__(self, register: NodeRegister, log: Log, facts: Facts) -> None:
        self._register = register
        self._log = log
        self._facts = facts

    def register(self, dispatcher: Dispatcher) -> None:
        """Put the handlers on a dispatcher."""
        dispatcher.plain(messages.LIST_NODES, self.list)
        dispatcher.plain(messages.DESCRIBE_NODE, self.show)
        dispatcher.task(messages.CORDON_NODE, self.cordon)
        dispatcher.task(messages.UNCORDON_NODE, self.uncordon)
        dispatcher.task(messages.REMOVE_NODE, self.remove)
        dispatcher.plain(messages.LIST_MEMBERS, self.members)
        dispatcher.task(messages.WANT_VOTERS, self.want_voters)

    def list(self, _params: messages.ListNodes, _context: Context) -> messages.Nodes:
        nodes = [self._info(node) for node in self._register.nodes()]
        return messages.Nodes(nodes=nodes, stale_s=self._stale_s())

    def show(self, params: messages.DescribeNode, _context: Context) -> messages.NodeInfo:
        return self._info(self._known(params.node))

    async def cordon(self, params: messages.CordonNode, context: Context) -> messages.NodeInfo:
        return await self._change(params.node, NodeEvent.MARK_UNAVAILABLE, params.reason, context)

    async def uncordon(self, params: messages.UncordonNode, context: Context) -> messages.NodeInfo:
        return await self._change(params.node, NodeEvent.MARK_AVAILABLE, "", context)

    async def remove(self, params: messages.RemoveNodeRequest, context: Context) -> Nothing:
        node = self._known(params.node)
        if why := self._facts.refusal(node.name):
            raise PlatformError("conflict", why, hint="bring the others back first", node=node.name)
        command = RemoveNode(node=node.name, force=params.force)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    def members(self, _params: messages.ListMembers, _context: Context) -> messages.Members:
        status = self._log.status()
        names = sorted({*status["voters"], *status["observers"]})
        return messages.Members(
            members=[self._member(name) for name in names],
            leader=status["leader"] or "",
            term=status["term"],
            change=self._facts.change(),
            wanted=self._register.voters_wanted,
        )

    async def want_voters(
        self, params: messages.WantVotersRequest, context: Context
    ) -> messages.Members:
        command = WantVoters(voters=params.voters)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return self.members(messages.ListMembers(), context)

    # -- common ----------------------------------------------------------------------------------

    async def _change(
        self, name: str, event: NodeEvent, reason: str, context: Context
    ) -> messages.NodeInfo:
        node = self._known(name)
        command = ChangeNode(node=node.name, event=event, reason=reason)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return self._info(self._known(name))

    def _known(self, name: str) -> Node:
        node = self._register.get(name)
        if node is None:
            raise PlatformError(
                "no-such-target", f"no node is called {name!r}", hint="list them: paas nodes"
            )
        return node

    def _stale_s(self) -> float | msgspec.UnsetType:
        stale_s = self._facts.staleness()
        return msgspec.UNSET if stale_s is None else round(stale_s, 3)

    def _role(self, name: str) -> str:
        status = self._log.status()
        if name == status["leader"]:
            return "leader"
        if name in status["voters"]:
            return "voter"
        return "observer" if name in status["observers"] else ""

    def _member(self, name: str) -> messages.MemberInfo:
        node = self._register.get(name)
        return messages.MemberInfo(
            node=name,
            role=self._role(name),
            address="" if node is None else node.address,
            state="" if node is None else str(node.state),
            behind=self._facts.behind(name),
        )

    def _info(self, node: Node) -> messages.NodeInfo:
        return messages.NodeInfo(
            name=node.name,
            state=str(node.state),
            since=node.since_ms / 1000,
            address=node.address,
            role=self._role(node.name),
            components=self._facts.components(node.name),
            lease_age=self._facts.lease_age_s(node.name),
            cordoned=node.cordoned,
            draining=node.draining,
            memory=node.memory_bytes,
            cpu=node.cpu,
            disk=node.disk_bytes,
            version=node.version,
            reason=node.reason,
            bases=node.bases,
            labels=node.labels,
            virtual_nodes=self._facts.virtual_nodes(node.name),
            storage="full" if node.storage_full else "ok",
        )
