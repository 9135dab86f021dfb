"""Three controlled nodes with volumes; the types `db` (waits) and `scratch` (begins empty).

Tests must name `autojump_clock` themselves, else they run in real time.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.controller.commands import RegisterType
from paas.testing.controlled_node import BUNDLE, ControlledCluster
from paas.testing.fake_volumes import VolumeWorld

MIB = 1 << 20


def manifest(name: str, version: str = "1.0.0", **volumes: dict[str, Any]) -> dict[str, Any]:
    return {
        "component": {"name": name, "version": version, "command": ["./run"]},
        "volumes": volumes,
    }


@pytest.fixture
async def world(autojump_clock: MockClock, nursery: trio.Nursery) -> VolumeWorld:
    cluster = ControlledCluster(nursery)
    await cluster.start()
    made = VolumeWorld(cluster, nursery)
    await made.start()
    data = {"path": "/data", "size": 16 * MIB}
    for plain in (
        manifest("db", data=data),
        manifest("db", "2.0.0", data={**data, "size": 32 * MIB}, log={**data, "path": "/log"}),
        manifest("scratch", data={**data, "on_loss": "empty"}),
        manifest("plain"),
    ):
        await cluster.common.log.propose(RegisterType(bundle=BUNDLE, manifest=plain))
    return made
