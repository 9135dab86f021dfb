"""Hubs in processes of their own: short of descriptors, killed, cut off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.testing.mesh_hubs import Authority, Hub, until
from paas.wire import codec

pytestmark = pytest.mark.system

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

Start = Callable[..., tuple["subprocess.Popen[str]", int]]


@pytest.fixture
def start(authority: Authority) -> Iterator[Start]:
    """Start a node process; the port it listens at."""
    started: list[subprocess.Popen[str]] = []

    def run(node: str, knows: dict[str, str], descriptors: int = 0) -> Any:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "node_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        certificate, key = (part.decode() for part in authority.save())
        wanted = {"certificate": certificate, "key": key, "node": node, "knows": knows}
        process.stdin.write(json.dumps({**wanted, "descriptors": descriptors}) + "\n")
        process.stdin.flush()
        return process, int(process.stdout.readline())

    yield run
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


async def both(hub: Hub) -> None:
    """Wait for both channels to n2."""
    await until(lambda: len(hub.mesh.statistics()["connections"]) == 2)


async def told(hub: Hub, node: str) -> str:
    return str(codec.unpack(await hub.peer(node).call_raw("told", codec.pack({}), 10.0)))


async def test_a_node_without_descriptors_keeps_what_it_has_and_hears_again(
    hubs: Any, start: Start
) -> None:
    one, zero = await hubs.start("n1"), await hubs.start("n0")
    _, port = start("n2", {"n1": "127.0.0.1:9", "n0": "127.0.0.1:9", "n9": "127.0.0.1:9"}, 12)
    one.mesh.set_peers({"n2": f"127.0.0.1:{port}"})
    await both(one)
    strangers = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
    zero.mesh.set_peers({"n2": f"127.0.0.1:{port}"})
    # It dials n9 all the time, and has no descriptor for that either.
    with trio.fail_after(20):
        while "Too many open files" not in await told(one, "n2"):  # noqa: ASYNC110 -- no event
            await trio.sleep(0.05)
    assert one.frames.epochs["n2"] == [1]
    for stranger in strangers:
        await stranger.aclose()
    await until(lambda: zero.mesh.connected() == ["n2"])
    assert one.frames.epochs["n2"] == [1]
    await told(zero, "n2")


async def test_a_killed_node_is_noticed_at_once_and_greeted_again_with_a_larger_epoch(
    hubs: Any, start: Start
) -> None:
    one = await hubs.start("n1")
    two, port = start("n2", {"n1": "127.0.0.1:9"})
    one.mesh.set_peers({"n2": f"127.0.0.1:{port}"})
    await both(one)
    answers: list[Any] = []
    one.peer("n2").send_request("told", codec.pack({}), answers.append, timeout_s=30.0)
    two.kill()
    two.wait()
    await until(lambda: not one.mesh.connected() and "n2" not in one.frames.connected)
    assert len(answers) == 1
    _, port = start("n2", {"n1": "127.0.0.1:9"})
    one.mesh.set_peers({"n2": f"127.0.0.1:{port}"})
    await until(lambda: one.frames.epochs["n2"] == [1, 2] and one.mesh.connected())


def test_connections_that_a_partition_killed_are_back_soon_after_it() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(HERE / "partition_process.py")],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    for cut in seen["cuts"]:
        if cut["length_s"] > 4:
            # What passes one way keeps an idle connection alive at its receiver, until the sender
            # gives up for want of answers.
            assert cut["noticed"][1] == []
            assert cut["one_way"] or cut["noticed"][0] == []
        # The promise is a second; this machine may be busy.
        assert cut["healed_s"] < 5, cut
    assert any("timed out" in text for _, text in seen["troubles"])
