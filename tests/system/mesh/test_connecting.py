"""Hubs that belong together: calls, frames, addresses, renewal, many reconnects."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.rpc import mesh as mesh_module
from paas.testing.mesh_hubs import Authority, Hub, complete, until
from paas.wire import codec

pytestmark = pytest.mark.system


async def echo(hub: Hub, node: str, value: Any) -> Any:
    return codec.unpack(await hub.peer(node).call_raw("echo", codec.pack(value), 30.0))


async def test_three_hubs_call_each_other_and_exchange_frames(hubs: Any) -> None:
    everybody = [await hubs.start(node) for node in ("n1", "n2", "n3")]
    await hubs.connect()
    for hub in everybody:
        assert hub.mesh.connected() == sorted({"n1", "n2", "n3"} - {hub.node})
        for other in hub.mesh.connected():
            assert await echo(hub, other, {"from": hub.node}) == {"from": hub.node}
            hub.mesh.raft().send(other, hub.node.encode() * 300_000)
    await until(lambda: all(len(hub.frames.messages) == 2 for hub in everybody))
    for hub in everybody:
        for node, data in hub.frames.messages:
            assert data == node.encode() * 300_000
        assert hub.troubles == []


async def test_large_messages_in_both_directions_at_once_arrive_whole(hubs: Any) -> None:
    one, two = await hubs.start("n1"), await hubs.start("n2")
    await hubs.connect()
    values = [os.urandom(size) for size in (1, 16_384, 16_385, 100_000, 3 << 20)]

    async def check(hub: Hub, node: str, value: bytes) -> None:
        assert await echo(hub, node, {"data": value}) == {"data": value}

    async with trio.open_nursery() as nursery:
        for value in values:
            nursery.start_soon(check, one, "n2", value)
            nursery.start_soon(check, two, "n1", value)
    assert one.troubles == two.troubles == []


@pytest.mark.parametrize("host", ["::1", "localhost", "0.0.0.0", "::"])
async def test_addresses_may_be_of_ipv6_or_names_or_all(hubs: Any, host: str) -> None:
    one = await hubs.start("n1")
    two = await hubs.start("n2", host=host)
    reached = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)
    reached = f"[{reached}]" if ":" in reached else reached
    two.mesh.set_peers({"n1": one.address})
    one.mesh.set_peers({"n2": f"{reached}:{two.network.port}"})
    await complete([one, two])
    assert await echo(one, "n2", 1) == 1


@pytest.mark.parametrize(
    "address", ["", "n2", "n2:", ":7400", "n2:70000", "n2:-1", "::1:7400", "[::1]", "n2:７４００"]
)
async def test_what_is_no_address_is_told(hubs: Any, address: str) -> None:
    one = await hubs.start("n1")
    one.mesh.set_peers({"n2": address})
    await until(lambda: one.trouble("expected host:port"))


async def test_an_address_that_is_taken_is_an_error_that_names_it(
    hubs: Any, authority: Authority
) -> None:
    one = await hubs.start("n1")
    second = Hub(authority, "n2", port=one.network.port)
    with pytest.raises(PlatformError, match=rf"127.0.0.1:{one.network.port}: Address already"):
        await second.mesh.run()


async def test_nobody_there_is_told_once_and_tried_until_somebody_is(hubs: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = await hubs.start("n1")
    one.mesh.set_peers({"n2": f"127.0.0.1:{port}"})
    await trio.sleep(1.5)
    assert len(one.trouble("Connection refused")) == 2  # one a channel
    assert one.mesh.statistics()["failed_dials"] > 4
    two = await hubs.start("n2", port=port)
    two.mesh.set_peers({"n1": one.address})
    await complete([one, two], within_s=10)


async def test_fifty_reconnects_leave_no_descriptor_behind(
    hubs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "STABLE_S", 0.0)  # or the back-off makes it long
    one, two = await hubs.start("n1"), await hubs.start("n2")
    await hubs.connect()
    await echo(one, "n2", 0)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for turn in range(50):
        (one, two)[turn % 2].mesh.drop(("n2", "n1")[turn % 2])
        await until(lambda turn=turn: len(one.frames.epochs["n2"]) == turn + 2)
        await complete([one, two])
        assert await echo(one, "n2", turn) == turn
    assert one.frames.epochs["n2"] == two.frames.epochs["n1"] == list(range(1, 52))
    await until(lambda: descriptors() == before)


async def test_a_renewed_certificate_is_shown_and_open_connections_stay(
    hubs: Any, authority: Authority
) -> None:
    one = await hubs.start("n1", identity=authority.expired("n1"))
    two, three = await hubs.start("n2"), await hubs.start("n3")
    for hub in hubs.all:
        hub.mesh.set_peers({h.node: h.address for h in hubs.all})
    await until(lambda: two.trouble("certificate has expired"))
    await until(lambda: three.mesh.connected() == ["n2"])
    assert one.mesh.connected() == []
    assert one.trouble("certificate expired")  # what the alert says
    one.transport.renewed(authority.identity("n1"))
    await complete(hubs.all)
    two.transport.renewed(authority.expired("n2"))
    await trio.sleep(0.5)
    assert await echo(two, "n3", 1) == 1
    assert two.frames.epochs["n3"] == [1]
    two.mesh.drop("n3")
    await until(lambda: three.trouble("certificate has expired"))
    two.transport.renewed(authority.identity("n2"))
    await complete(hubs.all)
