"""Lease and clearing over a connection: for the hub of this cluster, and for nobody else."""

from __future__ import annotations

from typing import Any, cast

import pytest

from paas.base.errors import PlatformError
from paas.container import methods
from paas.container.agent import ContainerAgent, ContainerEngine
from paas.rpc.dispatch import Dispatcher
from paas.testing.controlled_node import TrioClock
from paas.testing.pair import pairs


class Engine:
    """What was asked of the engine."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def lease(self, deadline_s: float | None) -> None:
        self.asked.append(deadline_s)
        if deadline_s == 1.0:
            raise PlatformError("not-available", "the lease has ended before it began")

    async def clear(self) -> None:
        self.asked.append("clear")


async def ask(engine: Engine, role: str, method: Any, params: Any) -> Any:
    async def unpack(*_: Any) -> str:
        return ""

    agent = ContainerAgent(
        cast(ContainerEngine, engine), hub_directory="", unpack=unpack, release=lambda _: None
    )
    async with pairs() as maker:
        dispatcher = Dispatcher(
            maker._nursery, TrioClock(), authorise=agent.authorise, on_bug=lambda *_: None
        )
        agent.register(dispatcher)
        peer, other = maker.join(lambda *_: None, dispatcher)
        other.info["role"] = role
        try:
            answer = await peer.call(method, params, timeout_s=5)
        except PlatformError as exc:
            answer = exc
    return answer


async def test_the_hub_sets_the_lease_and_clears_the_node() -> None:
    engine = Engine()
    await ask(engine, "hub", methods.LEASE, methods.SetLease(deadline_s=7.25))
    await ask(engine, "hub", methods.LEASE, methods.SetLease())
    await ask(engine, "hub", methods.CLEAR, methods.ClearNode())
    assert engine.asked == [7.25, None, "clear"]


async def test_a_lease_that_is_over_is_answered_as_such() -> None:
    answer = await ask(Engine(), "hub", methods.LEASE, methods.SetLease(deadline_s=1.0))
    assert isinstance(answer, PlatformError)
    assert answer.code == "not-available"


@pytest.mark.parametrize("method", [methods.LEASE, methods.CLEAR])
async def test_no_other_agent_may(method: Any) -> None:
    engine = Engine()
    answer = await ask(engine, "node", method, method.params())
    assert isinstance(answer, PlatformError)
    assert answer.code == "denied"
    assert engine.asked == []
