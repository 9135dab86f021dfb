"""The battery is not blind: outside of containers the same attempts succeed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.system.escape import battery

pytestmark = pytest.mark.system


@pytest.fixture
def setuid() -> Iterator[str]:
    """A program of root with its bit set, where anybody can run it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copyfile("/usr/bin/id", folder / "id")
        (folder / "id").chmod(0o6755)
        yield str(folder / "id")


@pytest.mark.parametrize("on_host", [False, True], ids=["throw-away", "host"])
async def test_outside_the_same_attempts_succeed(
    node: Any, facts: dict[str, Any], setuid: str, on_host: bool
) -> None:
    chosen = [p for p in battery.PROBES if p.control and p.on_host == on_host]
    given = facts | {
        "cwd": "/proc",
        "setuid": setuid,
        "device": str(node.bundle / "disk"),
        "user": 65_534,
        "option": 19,
    }
    names = [probe.name for probe in chosen]
    found = await trio.to_thread.run_sync(lambda: battery.outside(names, given, on_host=on_host))
    other = {p.name: found[p.name] for p in chosen if found[p.name] not in p.control}
    assert other == {}


def test_the_table_is_as_large_and_as_watched_as_it_should_be() -> None:
    names = [probe.name for probe in battery.PROBES]
    assert len(names) == len(set(names))
    assert len(names) >= 200
    unwatched = [p.name for p in battery.PROBES if not p.control and not p.reason]
    assert unwatched == []
    # A control that cannot differ from the refusal shows nothing.
    blind = [p.name for p in battery.PROBES if p.control and p.control <= p.expected["component"]]
    assert blind == []
    assert sum("ok" in p.control for p in battery.PROBES) >= 130
    # What works inside is of one's own, and named here; all of it is user 0's alone.
    works = {p.name for p in battery.PROBES if "ok" in p.expected["component"]}
    assert works == set()
    own = {p.name for p in battery.PROBES if "ok" in p.expected["user0"]}
    assert own == {"change_limits_of_pid_1", "change_mode_of_the_root"}


async def test_a_leak_would_be_seen(tmp_path: Path) -> None:
    """The attempts that look for leaks find one where there is one."""
    canary = tmp_path / "canary"
    canary.write_text("canary")
    names = ["host_by_leaked_descriptor", "inherited_descriptors"]
    order = battery.order(names, {"canary": str(canary)})
    run = [battery.PYTHON, "-s", "-E", str(battery.HERE / "inside.py")]
    leak = os.open(tmp_path / "leak", os.O_CREAT | os.O_WRONLY)
    try:
        done = await trio.run_process(
            ["sh", "-c", 'exec 9</ && exec "$@"', "sh", *run, order],
            capture_stdout=True,
            pass_fds=(leak,),
        )
    finally:
        os.close(leak)
    assert done.stdout.startswith(b'["ok","[')


async def test_neighbours_of_one_network_meet(tmp_path: Path) -> None:
    """The abstract socket of a neighbour is reached by whoever shares its network."""
    order = battery.order(["abstract_socket_of_a_neighbour"], {})
    source = f"""
import socket, subprocess, sys
hidden = socket.socket(socket.AF_UNIX)
hidden.bind("\\0neighbour")
hidden.listen()
subprocess.run([{battery.PYTHON!r}, "-s", "-E", {str(battery.HERE / "inside.py")!r}, sys.argv[1]])
"""
    command = ["unshare", "--net", battery.PYTHON, "-c", source, order]
    done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout.strip() == b'["ok"]'
