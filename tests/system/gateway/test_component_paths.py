"""The gateway's program with HAProxy before it, and with certificates of a real ACME authority.

A test plays harness and platform; the gateway, HAProxy, the members and Pebble are real.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto import utilities as ws_errors

from paas.gateway.messages import Route, RouteMember
from paas.sdk.paas_testing import Harness, HarnessError
from paas.testing.gateway_world import Socket
from tests.system.acme.pebble_world import pebble
from tests.system.gateway.haproxy_world import Origin, component, free_port, get

ROUTES = [
    Route(name="site", group="web"),
    Route(name="call", group="web", kind="operation", path="/call"),
]


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def member(origin: Origin, number: int, state: Any = "serving") -> RouteMember:
    return RouteMember(
        route="site",
        component=component(number),
        incarnation=1,
        node="n",
        host="127.0.0.1",
        port=origin.port,
        state=state,
        weight=100,
        drain_s=30.0,
    )


@contextmanager
def gateway(
    configuration: dict[str, Any],
    members: list[RouteMember],
    others: Callable[[dict[str, Any]], Any] = lambda params: {"replies": []},
    platform: Mapping[str, Callable[[dict[str, Any]], Any]] = MappingProxyType({}),
    **endpoints: int,
) -> Iterator[Harness]:
    """The program, which follows these routes; `others` answer its calls of the group, `platform`
    further methods."""
    harness = Harness(
        [sys.executable, "-m", "paas.gateway.component.main"],
        configuration=configuration,
        environment={
            "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
            **{f"PAAS_ENDPOINT_{n.upper()}": f"127.0.0.1:{p}" for n, p in endpoints.items()},
        },
    )
    snapshot = {"routes": plain(ROUTES), "members": plain(members)}
    harness.on("hub.call", others)
    for method, answer in platform.items():
        harness.on(method, answer)
    harness.on("gateway.follow", {"watch": 7, "snapshot": snapshot, "index": 1})
    harness.start()
    try:
        yield harness
    finally:
        harness.close()


async def until_answers(port: int, body: str) -> None:
    with trio.fail_after(20):
        while True:
            try:
                if (await get(port)).body == body:
                    return
            except (OSError, trio.BrokenResourceError):
                pass
            await trio.sleep(0.05)


async def until_status(port: int, path: str, status: int) -> None:
    while True:
        with suppress(OSError, trio.BrokenResourceError):
            if (await get(port, path)).status == status:
                return
        await trio.sleep(0.05)


async def listening(origin: Origin, nursery: trio.Nursery) -> Origin:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    origin.port = listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, origin.one, [listener])
    return origin


async def test_haproxy_carries_and_a_departure_waits_for_it() -> None:
    port = free_port()
    async with trio.open_nursery() as nursery:
        one = await listening(Origin("one"), nursery)
        two = await listening(Origin("two"), nursery)
        configuration = {"data_path": "haproxy", "edge": {"access_log": "none"}}
        with gateway(configuration, [member(one, 1)], http=port) as harness:
            await until_answers(port, "one")
            _, headers, _ = one.last
            assert headers["x-forwarded-for"] == "127.0.0.1"
            assert "via" not in headers, "it did not come through the edge"

            harness.event(
                7, "changed", data={"members": plain([member(two, 2)]), "routes": [], "removed": []}
            )
            nursery.start_soon(get, port, "/slow")
            with trio.fail_after(20):
                while not any("/slow" in h[0] for h in [*one.heard, *two.heard]):
                    await get(port)
            busy = one if any("/slow" in h[0] for h in one.heard) else two
            number, other = (1, two) if busy is one else (2, one)
            changed = {"members": plain([member(busy, number, "leaving")])}
            harness.event(7, "changed", data={**changed, "routes": [], "removed": []})
            await until_answers(port, other.name)
            assert {(await get(port)).body for _ in range(10)} == {other.name}
            assert not [r for r in harness._requests if r.method == "gateway.acknowledge"]
            busy.let_go.set()
            acknowledged = await trio.to_thread.run_sync(
                lambda: harness.expect("gateway.acknowledge")
            )
            assert acknowledged.params["component"] == component(number)
            acknowledged.answer({})
        nursery.cancel_scope.cancel()


async def echo_socket(stream: trio.SocketStream) -> None:
    """A member that accepts a WebSocket and echoes its texts."""
    socket_ = WSConnection(ConnectionType.SERVER)
    with suppress(ws_errors.RemoteProtocolError, trio.BrokenResourceError):
        await _echo(stream, socket_)


async def _echo(stream: trio.SocketStream, socket_: WSConnection) -> None:
    async with stream:
        while data := await stream.receive_some(65_536):
            socket_.receive_data(data)
            for event in socket_.events():
                if isinstance(event, ws.Request):
                    await stream.send_all(socket_.send(ws.AcceptConnection()))
                elif isinstance(event, ws.TextMessage):
                    await stream.send_all(socket_.send(ws.TextMessage(data=event.data)))
                elif isinstance(event, ws.CloseConnection):
                    await stream.send_all(socket_.send(event.response()))


async def test_a_websocket_outlives_other_routes_and_is_closed_when_its_member_leaves() -> None:
    """Through HAProxy and the edge: a reload does not cut it, a departure ends it by 1001."""
    port = free_port()
    route = Route(name="site", group="web", websocket=True, drain_s=1.0)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo_socket, [listener])
        one = Origin("one", listener.socket.getsockname()[1])
        start = gateway({"data_path": "haproxy"}, [member(one, 1)], http=port)
        harness = await trio.to_thread.run_sync(start.__enter__)
        try:
            changed = {"routes": plain([route]), "removed": [], "members": []}
            harness.event(7, "changed", data=changed)
            await trio.sleep(0.2)
            client = await trio.to_thread.run_sync(Socket, ("127.0.0.1", port), "/")
            more = {**changed, "routes": plain([Route(name="more", group="web", path="/more")])}
            harness.event(7, "changed", data=more)
            with trio.fail_after(20):
                await until_status(port, "/more", 503)
            client.say("after the reload")
            assert await trio.to_thread.run_sync(client.hear) == "after the reload"
            leaving = msgspec.structs.replace(member(one, 1, "leaving"), drain_s=1.0)
            harness.event(7, "changed", data={**changed, "members": plain([leaving])})
            acknowledged = await trio.to_thread.run_sync(
                lambda: harness.expect("gateway.acknowledge")
            )
            acknowledged.answer({})
            closed = await trio.to_thread.run_sync(client.wait_closed)
            assert closed.code == 1001
        finally:
            await trio.to_thread.run_sync(start.__exit__, None, None, None)
        nursery.cancel_scope.cancel()


def shown(port: int, name: str) -> str:
    """Who issued what is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port)) as stream,
        context.wrap_socket(stream, server_hostname=name) as secure,
    ):
        data = secure.getpeercert(True) or b""
    return "pebble" if b"Pebble" in data else "stand-in" if b"not yet" in data else "other"


async def until_shown(port: int, name: str, issuer: str) -> None:
    while True:
        if await trio.to_thread.run_sync(shown, port, name) == issuer:
            return
        await trio.sleep(0.1)


@pytest.mark.parametrize("data_path", ["built-in", "haproxy"])
async def test_a_gateway_has_its_certificates_from_the_authority(
    tmp_path: Path, data_path: str
) -> None:
    secure = free_port()
    plain_port = free_port()
    async with pebble(tmp_path, port=plain_port) as world:
        configuration = {
            "data_path": data_path,
            "edge": {"access_log": "none"},
            "acme": {
                "directory": world.directory,
                "names": [["shop.example.org"]],
                "folder": str(tmp_path / "acme"),
                "fetcher": {"private": ["127.0.0.0/8"], "authorities": str(tmp_path / "p.pem")},
            },
        }
        start = gateway(configuration, [], http=plain_port, https=secure)
        harness = await trio.to_thread.run_sync(start.__enter__)
        try:
            with trio.fail_after(40):
                await until_shown(secure, "shop.example.org", "pebble")
            assert harness.groups == ["gateways"], "the lease was given back"
            assert await trio.to_thread.run_sync(shown, secure, "unknown.test") == "stand-in"
        finally:
            await trio.to_thread.run_sync(start.__exit__, None, None, None)
    assert world.web.heard == 0, "the gateway itself answered the challenge"


async def test_a_wildcard_is_proved_by_a_record_of_the_clusters_names(tmp_path: Path) -> None:
    """The test stands for the name service, and for the alias that leads the authority there."""
    secure, below = free_port(), ".gateway.app"
    async with pebble(tmp_path) as world:

        def published(params: dict[str, Any]) -> Any:
            assert (params["kind"], params["name"].endswith(below)) == ("TXT", True)
            name = params["name"].removesuffix(below)
            world.names.published.append(name)
            world.names.texts.setdefault(name, []).append(params["data"])
            return {"name": f"{params['name']}.paas.internal.", "serial": 1}

        def withdrawn(params: dict[str, Any]) -> Any:
            world.names.texts[params["name"].removesuffix(below)].remove(params["data"])
            return {"count": 1, "serial": 2}

        acme = {
            "directory": world.directory,
            "names": [["*.shop.example.org", "shop.example.org"]],
            "challenge": "dns-01",
            "folder": str(tmp_path / "acme"),
            "fetcher": {"private": ["127.0.0.0/8"], "authorities": str(tmp_path / "p.pem")},
        }
        platform = {"dns.publish": published, "dns.withdraw": withdrawn}
        start = gateway({"acme": acme}, [], platform=platform, http=free_port(), https=secure)
        harness = await trio.to_thread.run_sync(start.__enter__)
        try:
            with trio.fail_after(60):
                await until_shown(secure, "any.shop.example.org", "pebble")
        finally:
            await trio.to_thread.run_sync(start.__exit__, None, None, None)
        assert harness.groups == ["gateways"], "the lease was given back"
        assert world.names.published == ["_acme-challenge.shop.example.org"] * 2
        assert not any(world.names.texts.values()), "nothing is left"


async def test_gateways_of_a_group_answer_for_each_other_and_share(tmp_path: Path) -> None:
    """The authority asks the first, the second orders, the third takes what the second has."""
    asked, ports = free_port(), [free_port(), free_port(), free_port()]
    gateways: list[Harness] = []

    def group_of(number: int) -> Callable[[dict[str, Any]], Any]:
        def call(params: dict[str, Any]) -> Any:
            assert (params["target"], params["selector"]) == ("group:gateways", "all")
            told = {"sender": component(number), "timeout": 5}
            return {
                "replies": [
                    {"outputs": other.call(params["operation"], params["inputs"], **told)}
                    for other in gateways[:number]
                ]
            }

        return call

    async with pebble(tmp_path, port=asked) as world:
        with ExitStack() as stack:
            for number, names in enumerate(([], [["shop.example.org"]], [["shop.example.org"]])):
                acme = {
                    "directory": world.directory,
                    "names": names,
                    "folder": str(tmp_path / f"acme{number}"),
                    "fetcher": {"private": ["127.0.0.0/8"], "authorities": str(tmp_path / "p.pem")},
                }
                configuration = {"edge": {"access_log": "none"}, "acme": acme}
                http = free_port() if number else asked
                start = gateway(configuration, [], group_of(number), http=http, https=ports[number])
                gateways.append(await trio.to_thread.run_sync(stack.enter_context, start))
                if names:
                    with trio.fail_after(40):
                        await until_shown(ports[number], "shop.example.org", "pebble")
            files = [
                (tmp_path / f"acme{n}" / "certificates" / "shop.example.org.pem").read_bytes()
                for n in (1, 2)
            ]
            assert files[0] == files[1]
            assert not (tmp_path / "acme2" / "account" / "account.key").exists()
            for inputs in ({"names": ["../account"]}, {"names": []}, {"names": 5}):
                with pytest.raises(HarnessError) as caught:
                    gateways[1].call("gateway.certificate", inputs, sender=component(9))
                assert caught.value.code == "invalid"
            for operation in ("gateway.certificate", "gateway.challenge"):
                with pytest.raises(HarnessError) as caught:
                    gateways[1].call(operation, {"names": ["shop.example.org"]}, sender="")
                assert caught.value.code == "denied"
