"""Leases of all nodes, granted and ended by the hub that leads (io).

    node.renew ──> a round of the log ──> granted | not-leader | lost | closing
    every LOSS_CHECK_S: who is overdue? ──> LoseNode; who is away for long? ──> given up

The leader's shell around leases.py.  What it holds to, because the promise there rests on it:

  - A renewal is answered only after a round of the log that began after its receipt, made by this
    replica in its present term, on a state with all that was committed before; and between the look
    at that state and the note of the grant nothing is waited for.
  - The command LoseNode is proposed for the term in which it was decided, and for no other.

Source: docs/internals/cluster.md, "Leases".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.node import limits
from paas.node.leases import Grantor
from paas.node.lifecycle import LEASED, NodeEvent, NodeState
from paas.node.messages import RENEW, Renew, Renewed
from paas.node.state import ChangeNode, LoseNode, Node, NodeRegister
from paas.rpc.dispatch import Context, Dispatcher


class Leadership(Protocol):
    @property
    def term(self) -> int: ...


class Log(Protocol):
    """The replicated log, as `paas.raft.log.ReplicatedLog`."""

    @property
    def leadership(self) -> Leadership | None:
        """This replica leads, as far as it knows."""
        ...

    def status(self) -> dict[str, Any]:
        """Of this only `leader`: its node, or None."""
        ...

    async def barrier(self, *, timeout_s: float) -> None:
        """Afterwards the state here contains all that was committed before the call, anywhere.

        On a leader: proven by a round that began after the call, and after an entry of its own
        term was applied.
        """
        ...

    async def propose(
        self, command: msgspec.Struct, *, timeout_s: float = ..., only_term: int | None = None
    ) -> Any: ...


class Granting:
    """See the module's text."""

    def __init__(
        self,
        *,
        node: str,
        log: Log,
        register: NodeRegister,
        clock: Clock,
        on_trouble: Callable[[str, PlatformError | None], None],
    ) -> None:
        """`on_trouble` is told each time; None: it is over."""
        self._node = node
        self._log = log
        self._register = register
        self._clock = clock
        self._on_trouble = on_trouble
        self._grantor = Grantor()
        self._offline: dict[tuple[str, int], float] = {}  # node and loss -> seen since

    def register(self, dispatcher: Dispatcher) -> None:
        """Put the handler of renewals on a dispatcher."""
        dispatcher.task(RENEW, self._renew_of_peer)

    def lease_age_s(self, node: str) -> float | None:
        """How long ago this leader granted the node its lease; None if it did not."""
        return self._grantor.age_s(node, self._clock.monotonic_s())

    def stopped(self) -> None:
        """This hub does not lead, or there is nobody to grant anything."""
        self._grantor.stopped()
        self._offline.clear()

    async def _renew_of_peer(self, params: Renew, context: Context) -> Renewed:
        if context.peer.info.get("node") != params.node:
            raise PlatformError("denied", "a hub renews the lease of its own node only")
        return await self.answer(params)

    async def answer(self, params: Renew) -> Renewed:
        """Grant a renewal, or say why not."""
        before = self._log.leadership
        if before is None:
            return self._refusal(params, "not-leader")
        try:
            await self._log.barrier(timeout_s=limits.RENEW_TIMEOUT_S)
        except PlatformError:
            return self._refusal(params, "not-leader")
        after = self._log.leadership
        if after is None or after.term != before.term:
            return self._refusal(params, "not-leader")
        # Led in this term before and after: so the round was made by this replica, in this term.
        node = self._register.get(params.node)
        if node is None or node.epoch != params.epoch or not (node.present and node.leased):
            return self._refusal(params, "lost")
        now_s = self._clock.monotonic_s()
        if not self._grantor.grant(after.term, params.node, params.epoch, now_s):
            return self._refusal(params, "closing")
        return Renewed(number=params.number, granted=True)

    def _refusal(self, params: Renew, reason: str) -> Renewed:
        leader = self._log.status()["leader"] or ""
        return Renewed(number=params.number, granted=False, reason=reason, leader=leader)

    async def look(self) -> None:
        """Declare lost whose lease is over, give up who is long gone; if this hub leads."""
        leadership = self._log.leadership
        if leadership is None:
            self.stopped()
            return
        now_s = self._clock.monotonic_s()
        self._grantor.led(leadership.term, now_s)
        nodes = self._register.nodes()
        leased = [(n.name, n.epoch) for n in nodes if n.leased and n.state in LEASED]
        for name, epoch in self._grantor.overdue(now_s, leased):
            await self._lose(name, epoch, leadership.term)
        for node in self._long_gone(nodes, now_s):
            await self._give_up(node)

    async def _lose(self, name: str, epoch: int, term: int) -> None:
        command = LoseNode(node=name, epoch=epoch, term=term)
        try:
            await self._log.propose(command, timeout_s=limits.LOSS_PROPOSAL_S, only_term=term)
            self._on_trouble("node.not_declared_lost", None)
        except PlatformError as exc:
            self._on_trouble("node.not_declared_lost", exc)

    def _long_gone(self, nodes: Sequence[Node], now_s: float) -> list[Node]:
        """Nodes that were offline all the time since this leader first saw it, long ago."""
        offline = {(n.name, n.lost_index): n for n in nodes if n.state is NodeState.OFFLINE}
        self._offline = {key: self._offline.get(key, now_s) for key in offline}
        gone = [key for key, since_s in self._offline.items() if now_s - since_s > limits.GIVE_UP_S]
        return [offline[key] for key in gone]

    async def _give_up(self, node: Node) -> None:
        command = ChangeNode(
            node=node.name, event=NodeEvent.GIVE_UP, reason="offline too long", epoch=node.epoch
        )
        try:
            await self._log.propose(command, timeout_s=limits.REPORT_TIMEOUT_S)
            self._on_trouble("node.not_given_up", None)
        except PlatformError as exc:
            self._on_trouble("node.not_given_up", exc)
