"""Ways into the containers of a node of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.container.entering import Entering


@pytest.fixture
async def entering(node: Any) -> AsyncIterator[Entering]:
    """Goes into the containers of the node."""
    async with trio.open_nursery() as nursery:
        found = Entering(node.engine)
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel()


@pytest.fixture
async def component(node: Any) -> str:
    """One that runs and does nothing."""
    started = await node.start("/bin/sleep", "600")
    await until(lambda: child_of(started.pid) is not None)
    return str(started.component)


async def until(true: Callable[[], bool]) -> None:
    """Look again and again: processes tell nobody what they have come to."""
    with trio.fail_after(20):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.005)


def child_of(pid: int) -> int | None:
    """The component's process, when it is the program that was asked for."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if found and Path(f"/proc/{found[0]}/comm").read_text() == "sleep\n":
        return int(found[0])
    return None


@pytest.fixture
def wait_until() -> Any:
    return until


@pytest.fixture
def program() -> Any:
    return child_of
