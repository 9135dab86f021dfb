"""Leases of all nodes, granted and ended by the hub that leads (io).

    node.renew ──> a round of the log ──> granted | not-leader | lost | closing
    every LOSS_CHECK_S: who is overdue? ──> LoseNode; who is away for long? ──> given up
                        who is removed, without a lease, and votes no more? ──> cleared
                        whose storage is not as the state has it? ──> NodeStorage

The leader's shell around leases.py.  What it holds to, because the promise there rests on it:

  - A renewal is answered only after a round of the log that began after its receipt, made by this
    replica in its present term, on a state with all that was committed before; and between the look
    at that state and the note of the grant nothing is waited for.
  - One round is under way at a time, and answers all who had asked when it began.  That many share
    one, the answers ask for the next renewals at common moments (multiples of RENEW_S on this
    clock), and a round after a pause begins SHARE_S late.
  - The command LoseNode is proposed for the term in which it was decided, and for no other.

Source: docs/internals/cluster.md, "Leases".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.node import limits
from paas.node.leases import Grantor
from paas.node.lifecycle import LEASED, NodeEvent, NodeState
from paas.node.messages import RENEW, Renew, Renewed
from paas.node.state import ChangeNode, LoseNode, Node, NodeRegister, NodeStorage
from paas.rpc.dispatch import Context, Dispatcher


class Leadership(Protocol):
    @property
    def term(self) -> int: ...


class Configuration(Protocol):
    @property
    def voters(self) -> Sequence[str]: ...


class Log(Protocol):
    """The replicated log, as `paas.raft.log.ReplicatedLog`."""

    @property
    def configuration(self) -> Configuration: ...

    @property
    def leadership(self) -> Leadership | None:
        """This replica leads, as far as it knows."""
        ...

    def status(self) -> dict[str, Any]:
        """Of this only `leader`, its node or None, and `storage`, `ok` or `full`."""
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


@dataclass(eq=False, slots=True)
class _Asked:
    """A renewal that waits for a round."""

    params: Renew
    done: trio.Event = field(default_factory=trio.Event)
    answer: Renewed | None = None


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
        self._storage: dict[str, NodeStorage] = {}  # what each node said last
        self._running = False
        self._asked: list[_Asked] = []
        self._come = trio.Event()

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
        self._storage.clear()

    async def _renew_of_peer(self, params: Renew, context: Context) -> Renewed:
        if context.peer.info.get("node") != params.node:
            raise PlatformError("denied", "a hub renews the lease of its own node only")
        return await self.answer(params)

    async def answer(self, params: Renew) -> Renewed:
        """Grant a renewal, or say why not."""
        if self._log.leadership is None or not self._running:
            return self._refusal(params, "not-leader")
        asked = _Asked(params)
        self._asked.append(asked)
        self._come.set()
        try:
            await asked.done.wait()
        finally:
            if asked in self._asked:
                self._asked.remove(asked)
        return asked.answer or self._refusal(params, "not-leader")

    async def run(self) -> None:
        """Make the rounds that renewals wait for, one after the other, until cancelled."""
        self._running = True
        try:
            while True:
                await self._come.wait()
                await trio.sleep(limits.SHARE_S)
                while self._asked:
                    await self._round()
                self._come = trio.Event()
        finally:
            self._running = False
            for asked in self._asked:
                asked.done.set()

    async def _round(self) -> None:
        """Answer all who have asked before it begins; who asks meanwhile waits for the next."""
        sharing, self._asked = self._asked, []
        try:
            term = await self._confirmed_term()
            for asked in sharing:
                asked.answer = self._judge(asked.params, term)
        finally:
            for asked in sharing:
                asked.done.set()

    async def _confirmed_term(self) -> int | None:
        """The term in which this replica led before a round and after it; None: it did not.

        So the round was made by this replica, in this term.
        """
        before = self._log.leadership
        if before is None:
            return None
        try:
            await self._log.barrier(timeout_s=limits.RENEW_TIMEOUT_S)
        except PlatformError:
            return None
        after = self._log.leadership
        return before.term if after is not None and after.term == before.term else None

    def _judge(self, params: Renew, term: int | None) -> Renewed:
        if term is None:
            return self._refusal(params, "not-leader")
        node = self._register.get(params.node)
        if node is None or node.epoch != params.epoch or not (node.present and node.leased):
            return self._refusal(params, "lost")
        now_s = self._clock.monotonic_s()
        if not self._grantor.grant(term, params.node, params.epoch, now_s):
            return self._refusal(params, "closing")
        self._storage[node.name] = NodeStorage(
            node=node.name, epoch=node.epoch, full=params.storage == "full"
        )
        again_s = limits.RENEW_S - now_s % limits.RENEW_S
        return Renewed(number=params.number, granted=True, again=again_s)

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
        leased = [(n.name, n.epoch) for n in nodes if self._can_be_lost(n)]
        for name, epoch in self._grantor.overdue(now_s, leased):
            await self._lose(name, epoch, leadership.term)
        for node in self._long_gone(nodes, now_s):
            await self._give_up(node, leadership.term)
        for node in nodes:
            if self._is_gone(node):
                await self._clear(node, leadership.term)
        await self._note_storage(nodes, leadership.term)

    def _can_be_lost(self, node: Node) -> bool:
        """Who is being removed votes no more before it is gone: a vote that nobody can give is one
        that the others lack (membership.py)."""
        leaving = node.state is NodeState.DESTROYING
        return node.leased and node.state in LEASED and not (leaving and self._votes(node))

    def _is_gone(self, node: Node) -> bool:
        """It is being removed, has no lease under which anything could run, and does not vote."""
        return node.state is NodeState.DESTROYING and not node.leased and not self._votes(node)

    def _votes(self, node: Node) -> bool:
        return node.name in self._log.configuration.voters

    async def _clear(self, node: Node, term: int) -> None:
        command = ChangeNode(
            node=node.name, event=NodeEvent.CLEARED, reason=node.reason, epoch=node.epoch
        )
        await self._decide(command, "node.not_taken_out", term)

    async def _lose(self, name: str, epoch: int, term: int) -> None:
        command = LoseNode(node=name, epoch=epoch, term=term)
        await self._decide(command, "node.not_declared_lost", term)

    async def _give_up(self, node: Node, term: int) -> None:
        command = ChangeNode(
            node=node.name, event=NodeEvent.GIVE_UP, reason="offline too long", epoch=node.epoch
        )
        await self._decide(command, "node.not_given_up", term)

    async def _decide(self, command: msgspec.Struct, trouble: str, term: int) -> None:
        """Write what was decided in this term; looked at again later when the log takes nothing."""
        try:
            await self._log.propose(command, timeout_s=limits.LOSS_PROPOSAL_S, only_term=term)
            self._on_trouble(trouble, None)
        except PlatformError as exc:
            self._on_trouble(trouble, exc)

    def _long_gone(self, nodes: Sequence[Node], now_s: float) -> list[Node]:
        """Nodes that were offline all the time since this leader first saw it, long ago."""
        offline = {(n.name, n.lost_index): n for n in nodes if n.state is NodeState.OFFLINE}
        self._offline = {key: self._offline.get(key, now_s) for key in offline}
        gone = [key for key, since_s in self._offline.items() if now_s - since_s > limits.GIVE_UP_S]
        return [offline[key] for key in gone]

    async def _note_storage(self, nodes: Sequence[Node], term: int) -> None:
        """Have the cluster know what the nodes say; the rest next time when the log takes none."""
        try:
            for node in nodes:
                said = self._storage.get(node.name)
                if said is None or said.epoch != node.epoch or said.full is node.storage_full:
                    continue
                if node.leased and node.present:
                    await self._log.propose(
                        said, timeout_s=limits.STORAGE_PROPOSAL_S, only_term=term
                    )
            self._on_trouble("node.storage_not_told", None)
        except PlatformError as exc:
            self._on_trouble("node.storage_not_told", exc)
