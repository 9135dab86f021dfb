"""Before a container is ordered its bundle is on this node, and undamaged."""

from __future__ import annotations

from typing import Any, cast

import pytest

from paas.assembly.container_port import ContainerPort
from paas.base.errors import PlatformError
from paas.bundle.state import Bundle, BundleState
from paas.container import methods
from paas.container.client import ContainersClient
from paas.container.messages import Limits
from paas.controller.ports import StartOrder
from paas.controller.state import ControllerState

DIGEST = "sha256:" + "0" * 64
ORDER = StartOrder(
    component="c" * 40,
    incarnation=1,
    bundle=DIGEST,
    command=("run",),
    base="host",
    protocol="json",
    environment={},
    configuration={},
    endpoints={},
    limits=Limits(),
    ready_timeout_s=1.0,
    stop_grace_s=1.0,
    hostname="c",
)


class Around:
    """Both neighbours of the port, and what was asked of them in which order."""

    def __init__(self, *failures: PlatformError | None) -> None:
        self.asked: list[Any] = []
        self.failures = list(failures)
        self.missing: PlatformError | None = None

    async def ensure(self, digest: str, *, doubt: bool = False) -> None:
        assert digest == DIGEST
        self.asked.append("doubt" if doubt else "ensure")
        if self.missing is not None:
            raise self.missing

    async def call(self, method: Any, _params: Any, *, timeout_s: float) -> Any:
        self.asked.append(method.name)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return methods.StartedContainer(pid=1, uid_base=2, address="", endpoints={}, timings_ms={})

    async def lease(self, deadline_s: float | None) -> None:
        self.asked.append(deadline_s)

    async def clear(self) -> None:
        self.asked.append("clear")


def port(around: Around, *, alone: bool = False) -> ContainerPort:
    bundles = BundleState()
    bundles.bundles[DIGEST] = Bundle(size=1, signature="", publisher="", since_ms=0)
    source = None if alone else around
    return ContainerPort(cast(ContainersClient, around), bundles, ControllerState(), source)


async def test_the_bundle_is_fetched_before_the_order_goes_out() -> None:
    around = Around()
    assert (await port(around).start(ORDER)).pid == 1
    assert around.asked == ["ensure", "container.start"]


async def test_without_its_bundle_nothing_is_ordered() -> None:
    around = Around()
    around.missing = PlatformError("not-available", "nobody has it")
    with pytest.raises(PlatformError) as caught:
        await port(around).start(ORDER)
    assert caught.value.code == "not-available"
    assert around.asked == ["ensure"]


async def test_a_damaged_bundle_is_fetched_anew_once() -> None:
    around = Around(PlatformError("corrupt"))
    await port(around).start(ORDER)
    assert around.asked == ["ensure", "container.start", "doubt", "container.start"]
    around = Around(PlatformError("corrupt"), PlatformError("corrupt"))
    with pytest.raises(PlatformError) as caught:
        await port(around).start(ORDER)
    assert caught.value.code == "corrupt"
    assert around.asked.count("container.start") == 2


async def test_other_failures_are_the_callers() -> None:
    around = Around(PlatformError("failed"))
    with pytest.raises(PlatformError) as caught:
        await port(around).start(ORDER)
    assert caught.value.code == "failed"
    assert around.asked == ["ensure", "container.start"]


async def test_a_node_alone_orders_at_once() -> None:
    around = Around()
    await port(around, alone=True).start(ORDER)
    assert around.asked == ["container.start"]


async def test_the_lease_and_the_clearing_are_passed_on() -> None:
    around = Around()
    fence = port(around)
    await fence.extend(4.5)
    await fence.extend(None)
    await fence.clear()
    assert around.asked == [4.5, None, "clear"]
