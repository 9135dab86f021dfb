"""A hostile hub that marks what it forwards as messages of a mailbox: only its primary may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import Invoke, InvokeResult
from paas.hub.mailbox import MailboxState, virtual_node_of
from paas.hub.mailbox_claims import MailboxClaims
from paas.hub.mailbox_commands import ConfigureGroup, Settings
from paas.hub.messages import FORWARD, Forward, MailboxClaim, MessageMark
from paas.hub.ring_state import RingState
from paas.hub.router import Router
from paas.node.state import LoseNode, NodeRegister, ReportNode
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire.registry import decode

GROUP = "orders"
NODES = ("n1", "n2", "n3")


class Replica:
    """The cluster state at the node that is lied to, n2."""

    def __init__(self) -> None:
        self.mailboxes, self.ring, self.nodes = MailboxState(), RingState(), NodeRegister()
        self._machine = Machine([self.nodes, self.ring, self.mailboxes])
        self._index = 0
        self.member_of = {"member": [GROUP], "other": []}
        for node in NODES:
            self.apply(ReportNode(node=node, memory_bytes=1, cpu=1.0, leased=True, cleared=True))
        self.apply(ConfigureGroup(group=GROUP, settings=Settings()))

    def apply(self, command: msgspec.Struct) -> None:
        self._index += 1
        stamp = Stamp(self._index, bytes(16), "t", self._index)
        assert self._machine.apply(self._index, encode(command, stamp)).error is None

    def groups_of(self, component: str) -> list[str]:
        return self.member_of[component]

    @property
    def primary(self) -> str:
        return str(self.ring.primary(virtual_node_of(GROUP)))

    @property
    def claim(self) -> MailboxClaim:
        return MailboxClaim(group=GROUP, epoch=self.ring.epoch(virtual_node_of(GROUP)))

    # what a router asks of the cluster

    def resolve(self, target: str) -> str:
        return target

    def members(self, group: str) -> list[str]:
        return [c for c, groups in self.member_of.items() if group in groups]

    def state(self, component: str) -> str:
        return "available"

    def node(self, component: str) -> str:
        return "n2"


class Target:
    """The hub of n2 with two components, and the connections of other hubs to it."""

    def __init__(self, nursery: trio.Nursery, maker: Pairs) -> None:
        self.replica = Replica()
        self.router = Router(self.replica, SystemClock(), node="n2")
        self.router.claims = MailboxClaims(self.replica.mailboxes, self.replica, self.replica.ring)
        self.bugs: list[Exception] = []
        self._maker = maker
        self._dispatcher = Dispatcher(
            nursery, SystemClock(), on_bug=lambda _where, bug: self.bugs.append(bug)
        )
        self._dispatcher.raw(FORWARD, self.router.forward)
        self.seen: list[tuple[str, str]] = []
        for component in ("member", "other"):
            ours, _ = maker.join(self._dispatcher, self._answer)
            self.router.attach(component, ours, ready=True)

    def _answer(self, peer: Peer, request: Request) -> None:
        invoke = decode(request.params, Invoke)
        self.seen.append((invoke.from_, invoke.operation))
        if not invoke.oneway:
            peer.reply(request, InvokeResult())

    def hub(self, node: str) -> Peer:
        there, here = self._maker.join(self._dispatcher, self._dispatcher)
        there.info["node"] = node
        return here


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with pairs() as maker, trio.open_nursery() as nursery:
        yield Target(nursery, maker)
        nursery.cancel_scope.cancel()


def marked(claim: MailboxClaim | None, component: str = "member") -> Forward:
    more: dict[str, Any] = {} if claim is None else {"kept": claim}
    return Forward(
        component=component,
        operation="do",
        from_="somebody-elsewhere",
        timeout=5.0,
        message=MessageMark(id="m1", attempt=1),
        **more,
    )


async def outcome(peer: Peer, message: Forward) -> str:
    try:
        await peer.call(FORWARD, message)
    except PlatformError as exc:
        return exc.code
    return "done"


async def test_the_primary_delivers_for_senders_of_any_node(target: Target) -> None:
    primary = target.hub(target.replica.primary)
    assert await outcome(primary, marked(target.replica.claim)) == "done"
    assert target.seen == [("somebody-elsewhere", "do")]


async def test_no_other_hub_does_whatever_it_claims(target: Target) -> None:
    claim = target.replica.claim
    others = [node for node in NODES if node != target.replica.primary]
    for node in (*others, "n9", ""):
        hub = target.hub(node)
        assert await outcome(hub, marked(claim)) == "denied"
        assert await outcome(hub, marked(None)) == "denied"
        for epoch in (claim.epoch - 1, claim.epoch + 1, 1 << 62, -1):
            wrong = MailboxClaim(group=GROUP, epoch=epoch)
            assert await outcome(hub, marked(wrong)) == "not-available"
        hub.notify(FORWARD, marked(claim))
    await trio.testing.wait_all_tasks_blocked()
    assert target.seen == []
    assert target.bugs == []


async def test_a_primary_of_the_past_or_of_a_future_is_told_to_try_later(target: Target) -> None:
    old, claim = target.replica.primary, target.replica.claim
    node = target.replica.nodes.get(old)
    assert node is not None
    target.replica.apply(LoseNode(node=old, epoch=node.epoch, term=1))
    assert target.replica.primary != old
    assert await outcome(target.hub(old), marked(claim)) == "not-available"
    assert await outcome(target.hub(old), marked(target.replica.claim)) == "denied"
    assert await outcome(target.hub(target.replica.primary), marked(claim)) == "not-available"
    assert target.seen == []
    heir = target.hub(target.replica.primary)
    assert await outcome(heir, marked(target.replica.claim)) == "done"


async def test_a_primary_reaches_members_of_its_group_only(target: Target) -> None:
    primary = target.hub(target.replica.primary)
    assert await outcome(primary, marked(target.replica.claim, "other")) == "not-available"
    plain = next(
        name
        for name in (f"g{number}" for number in range(10_000))
        if virtual_node_of(name) == virtual_node_of(GROUP)
    )
    target.replica.member_of["other"] = [plain]  # of the same primary, without a mailbox
    claim = MailboxClaim(group=plain, epoch=target.replica.claim.epoch)
    assert await outcome(primary, marked(claim, "other")) == "not-available"
    assert target.seen == []
