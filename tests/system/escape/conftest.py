"""The battery runs in the nodes of the container tests, with every back end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.system.container.conftest import (
    backend,
    fresh_node,
    modules,
    node,
    pytest_configure,
    pytest_generate_tests,
)
from tests.system.container.entering.conftest import entering
from tests.system.escape import battery
from tests.system.escape.host_side import bundle, things_of_the_host

__all__ = [
    "backend",
    "entering",
    "fresh_node",
    "modules",
    "node",
    "pytest_configure",
    "pytest_generate_tests",
]

_NEIGHBOUR = """
import socket, time
hidden = socket.socket(socket.AF_UNIX)
hidden.bind("\\0neighbour")
hidden.listen()
shown = socket.socket()
shown.bind(("0.0.0.0", 8000))
shown.listen()
open("/app/canary-of-the-neighbour", "w").write("canary")
time.sleep(600)
"""


@pytest.fixture
async def facts(node: Any, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """The host's things, a neighbour, and a hostile bundle."""
    bundle(node.bundle)
    neighbour = await node.start(battery.PYTHON, "-c", _NEIGHBOUR)
    await _listening(node, neighbour.address, 8000)
    with things_of_the_host(tmp_path, node.settings.network) as found:
        yield found | {"neighbour": [neighbour.address, 8000]}


async def _listening(node: Any, address: str, port: int) -> None:
    trouble: object = "no attempt ended"
    with trio.move_on_after(30):
        while True:
            try:
                stream = await trio.open_tcp_stream(address, port)
            except OSError as error:
                trouble = error
                await trio.sleep(0.05)
            else:
                await stream.aclose()
                return
    pytest.fail(f"{address} does not listen: {trouble}; ended: {node.exits}")
