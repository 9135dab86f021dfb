"""paas dns: list, status, query, publish, withdraw; and finding a cluster by its name.

Questions go to a name server of this machine by real sockets; it is our own, without a cluster.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import Exit, PlatformError
from paas.cli.dns_query import ask, find_joining, is_name, server_of
from paas.dns import messages

assert messages.PUBLISH.name == "dns.publish"  # declares what the fake hub checks

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def joining() -> Iterator[int]:
    """Where somebody seems to take nodes in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, joining: int) -> Iterator[str]:
    """HOST:PORT of a name server with a zone of its own."""
    folder = tmp_path_factory.mktemp("zone")
    lines = ["web.group A 10.64.0.1", "n1.node A 127.0.0.1"]
    lines += [f"big.group A 10.64.1.{n}" for n in range(200)]
    lines += ["_join._tcp.agent SRV 20 10 9 n1.node", "_join._tcp.agent SRV 10 10 1 gone.node"]
    lines += [f"_join._tcp.agent SRV 30 10 {joining} n1.node"]
    (folder / "zone").write_text("\n".join(lines) + "\n")
    words = [sys.executable, "-m", "paas.dns", "--zone", str(folder / "zone")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
        process.terminate()


@pytest.fixture
def named(hub: Any, server: str) -> Any:
    """The fake hub, which says that names are answered there."""
    hub.dns_status = lambda _: {
        "zone": "paas.internal",
        "serial": 7,
        "address": server,
        "figures": {"answers": 12},
        "keys": ["paas.internal. IN DS 1 13 2 ab"],
        "secondaries": {"192.0.2.9:53": "heard of 7"},
    }
    hub.dns_list = lambda params: {
        "zone": "paas.internal.",
        "serial": 7,
        "records": [
            {"name": "a.shop.app.paas.internal.", "kind": "A", "data": "192.0.2.1", "ttl": 60}
            | {"owner": "ab" * 20 if params["all"] else ""}
        ],
        "more": params["limit"] == 1,
    }
    hub.dns_publish = lambda params: {"name": f"{params['name']}.paas.internal.", "serial": 8}
    hub.dns_withdraw = lambda _: {"count": 2, "serial": 9}
    return hub


def test_lists_say_what_was_published_and_by_whom(paas: Any, named: Any) -> None:
    said = paas("dns", "list").out
    assert "a.shop.app.paas.internal." in said
    assert "operator" in said
    said = paas("dns", "list", "--all", "--below", "shop.app", "--limit", "1")
    assert "abababab" in said.out
    assert "more than 1" in said.err
    sent = named.sent("dns.list")[-1]
    assert (sent["all"], sent["below"], sent["limit"]) == (True, "shop.app", 1)


def test_status_shows_where_and_what_to_trust(paas: Any, named: Any, server: str) -> None:
    said = paas("dns", "status").out
    for word in (server, "serial 7", "12", "heard of 7", "DS 1 13 2 ab"):
        assert word in said


@pytest.mark.parametrize(
    "name", ["web.group", "WEB.group.paas.internal", "web.group.paas.internal."]
)
def test_a_query_asks_this_node_for_a_name_of_the_zone(paas: Any, named: Any, name: str) -> None:
    assert paas("dns", "query", name, "-o", "name").out.split() == ["10.64.0.1"]


def test_a_long_answer_is_asked_for_by_tcp(paas: Any, named: Any, server: str) -> None:
    assert len(paas("dns", "query", "big.group", "-o", "name").out.split()) == 200
    words = ("dns", "query", "web.group.paas.internal.", "A", "--server", server, "--tcp")
    assert "10.64.0.1" in paas(*words).out


def test_what_is_not_there_is_said(paas: Any, named: Any) -> None:
    done = paas("dns", "query", "nobody.group")
    assert done.status == Exit.NOT_FOUND
    assert "NXDOMAIN" in done.err
    done = paas("dns", "query", "web.group", "AAAA")
    assert "has no such record" in done.err
    assert paas("dns", "query", "web.group", "NOKIND").status == Exit.USAGE


def test_publishing_sends_what_was_said(paas: Any, named: Any) -> None:
    done = paas("dns", "publish", "_smtp._tcp", "srv", "0", "5", "25", "mail", "--ttl", "2m")
    assert "_smtp._tcp.paas.internal." in done.out
    (sent,) = named.sent("dns.publish")
    assert (sent["kind"], sent["data"], sent["ttl"]) == ("srv", "0 5 25 mail", 120)


def test_withdrawing_asks_first(paas: Any, named: Any) -> None:
    assert "would withdraw www A" in paas("dns", "withdraw", "www", "A", "--dry-run").out
    assert named.sent("dns.withdraw") == []
    assert "withdrew 2" in paas("dns", "withdraw", "www", "--yes").out
    (sent,) = named.sent("dns.withdraw")
    assert (sent["name"], sent["kind"], sent["data"]) == ("www", "", "")


# -- asking without a cluster ----------------------------------------------------------------------


def test_a_cluster_is_found_by_its_name_the_first_that_lets_itself_be_connected_to(
    server: str, joining: int
) -> None:
    assert find_joining("paas.internal", server) == f"127.0.0.1:{joining}"
    with pytest.raises(PlatformError, match="no node of a cluster"):
        find_joining("other.internal", server)


@pytest.mark.parametrize(
    ("text", "name"),
    [("paas.internal", True), ("192.0.2.1", False), ("192.0.2.1:7421", False), ("lab:7421", False)],
)
def test_names_are_told_from_addresses(text: str, name: bool) -> None:
    assert is_name(text) == name


@pytest.mark.parametrize("text", ["host", "192.0.2.1:0", "192.0.2.1:x", "", "[::1", "::1:99999x"])
def test_servers_are_addresses(text: str) -> None:
    with pytest.raises(PlatformError, match="server"):
        server_of(text)
    assert server_of("[::1]:54") == ("::1", 54)
    assert server_of("2001:db8::1") == ("2001:db8::1", 53)


def test_a_server_that_is_none_is_said() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(PlatformError, match="no name server answers"):
        ask(("127.0.0.1", port), "a.b.", "A")
