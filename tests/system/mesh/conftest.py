"""Clusters for the tests of the mesh: an authority, and hubs with certificates on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from paas.testing.mesh_hubs import Authority, Hub, complete, meet


class Hubs:
    """Hubs of one test, running."""

    def __init__(self, authority: Authority, nursery: trio.Nursery) -> None:
        self.authority = authority
        self.nursery = nursery
        self.all: list[Hub] = []

    async def start(self, node: str, **options: Any) -> Hub:
        hub = Hub(self.authority, node, **options)
        await self.nursery.start(hub.mesh.run)
        self.all.append(hub)
        return hub

    async def connect(self) -> None:
        meet(self.all)
        await complete(self.all)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("c1")


@pytest.fixture(scope="session")
def foreign() -> Authority:
    """Another cluster of the same name: only the key differs."""
    return Authority("c1")


@pytest.fixture
async def hubs(authority: Authority) -> AsyncIterator[Hubs]:
    async with trio.open_nursery() as nursery:
        yield Hubs(authority, nursery)
        nursery.cancel_scope.cancel()
