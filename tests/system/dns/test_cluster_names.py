"""Through the whole platform: what is in the zone, who may publish, what a name opens, what ends.

One cluster for all; the tests build on each other's types only, not on each other's components.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import ROOT

ZONE = "paas.internal"

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def peer(named: Any) -> str:
    return str(named.push("named", application="shop"))


def test_components_groups_and_endpoints_have_names_the_nearest_first(
    named: Any, peer: str
) -> None:
    cluster = named.cluster
    for node in ("n1", "n2"):
        cluster.create(peer, name=f"web-{node}", groups=["web"], constraints=[f"node={node}"])
    hosts = {node: named.host(f"web-{node}") for node in ("n1", "n2")}
    for node, other in (("n1", "n2"), ("n2", "n1")):
        named.until(node, "web.group", [hosts[node], hosts[other]])
        assert named.name(node, f"web-{other}.component") == [hosts[other]]
        listed = named.name(node, "_http._tcp.web.group", "SRV")
        assert [line.split()[0] for line in sorted(listed)] == ["10", "20"]
        port = named.endpoint(f"web-{node}")["port"]
        assert f'"{hosts[node]}:{port}"' in named.name(node, "web.group", "TXT")
    assert set(named.name("n3", "shop.app")) >= set(hosts.values())
    assert named.name("n1", "nobody.group") == []
    said = cluster.run("dns", "query", "web.group", "--node", "n3", "-o", "name").split()
    assert sorted(said) == sorted(hosts.values())


def test_nodes_and_agents_have_names_by_which_others_find_them(named: Any) -> None:
    cluster = named.cluster
    addresses = {node: cluster.machine(node).address for node in cluster.names}
    for node, address in addresses.items():
        assert named.name("n2", f"{node}.node", of="n1") == [address]
    cluster.until(lambda: len(named.name("n1", "hub.agent")) == 3)
    assert set(named.name("n1", "hub.agent")) == set(addresses.values())
    joins = named.name("n1", "_join._tcp.agent", "SRV")
    assert sorted(line.split()[3] for line in joins) == [
        f"{node}.node.paas.internal." for node in cluster.names
    ]
    host, port = named.server("n3")
    find = f"from paas.cli.dns_query import find_joining as f; print(f('{ZONE}', '{host}:{port}'))"
    found = named.inside("n2", "env", f"PYTHONPATH={ROOT}", sys.executable, "-c", find)
    assert found.strip() == f"{addresses['n3']}:7421"


def test_a_name_that_a_manifest_requires_opens_the_way_and_no_other_does(
    named: Any, peer: str
) -> None:
    cluster = named.cluster
    stranger = named.push("stranger", application="shop", requires="nothing")
    near = cluster.create(peer, name="near", groups=["stores"], constraints=["node=n1"])
    far = cluster.create(peer, name="far", groups=["stores"], constraints=["node=n2"])
    asker = cluster.create(peer, name="asker", constraints=["node=n1"])
    other = cluster.create(stranger, name="other", constraints=["node=n1"])
    port = named.endpoint(near)["port"]
    cluster.until(lambda: len(named.name("n1", "stores.group")) == 2)
    where = {"host": "stores.group.paas.internal", "port": port}
    said = cluster.call(asker, "reach", **where)
    assert said == {"reached": True, "said": f"this is {near}"}
    # The way to the far one was opened by the same question.
    said = cluster.call(asker, "reach", host=named.host(far), port=port)
    assert said == {"reached": True, "said": f"this is {far}"}
    # The name is no secret to who does not require it, and leads nowhere.
    command = ["exec", "other", "--", "python3", "-c"]
    told = cluster.run(*command, f"import socket; print(socket.gethostbyname('{where['host']}'))")
    assert told.strip() in (named.host(near), named.host(far))
    assert cluster.call(other, "reach", **where)["reached"] is False
    # Names elsewhere stay refused, and the host's resolver is not asked for them.
    for name in ("example.com", "paas.internal.example.com", "localdomain"):
        assert cluster.call(asker, "reach", host=name, port=80)["error"] == "gaierror"


def test_a_component_that_is_killed_is_named_no_more(named: Any, peer: str) -> None:
    cluster = named.cluster
    kept, killed = (
        cluster.create(peer, groups=["mortal"], restart="temporary", constraints=[f"node={node}"])
        for node in ("n1", "n2")
    )
    hosts = [named.host(kept), named.host(killed)]
    named.until("n1", "mortal.group", hosts)
    named.kill(killed, "peer.py")
    for node in ("n1", "n2", "n3"):
        named.until(node, "mortal.group", hosts[:1])
    named.until("n1", f"{killed}.component", [])


def test_who_publishes_where(named: Any, peer: str) -> None:
    cluster = named.cluster
    cluster.run("dns", "publish", "static.shop.app", "A", "192.0.2.80", "--ttl", "30s")
    named.until("n2", "static.shop.app", ["192.0.2.80"])
    owner = cluster.create(peer, name="owner", constraints=["node=n2"])

    def publish(name: str) -> Any:
        params = {"name": name, "kind": "TXT", "data": "hello"}
        return cluster.call(owner, "request", method="dns.publish", params=params)

    assert publish("hello.shop.app")["name"] == "hello.shop.app.paas.internal."
    named.until("n1", "hello.shop.app", ['"hello"'], "TXT")
    for name in ("hello.other.app", "shop.app", "hello", "web.group"):
        with pytest.raises(PlatformError):
            publish(name)
    cluster.api("controller.destroy", component=owner, grace=0.0)
    named.until("n3", "hello.shop.app", [], "TXT")
    cluster.run("dns", "withdraw", "static.shop.app", "--yes")
    named.until("n2", "static.shop.app", [])
    assert "nothing like this" in cluster.run(
        "dns", "withdraw", "static.shop.app", "--yes", status=3
    )


def test_who_asks_from_elsewhere_gets_the_zone_and_nothing_else(named: Any) -> None:
    """No resolver for strangers; what is for this machine's programs is not for the next one's."""
    host, port = named.server("n1")
    words = ["dig", f"@{host}", "-p", port, "+tries=1", "+time=2"]
    assert "REFUSED" in named.inside("n2", *words, "example.com")
    assert "recursion requested but not available" in named.inside(
        "n2", *words, "n1.node.paas.internal"
    )
    assert "Transfer failed" in named.inside("n2", *words, "paas.internal", "AXFR", status=None)
    assert "status: REFUSED" in named.inside("n2", *words, "version.bind", "TXT", "CH")


def test_a_hub_that_is_killed_answers_again_and_loses_nothing(named: Any, peer: str) -> None:
    cluster = named.cluster
    cluster.create(peer, name="steady", groups=["steady"], constraints=["node=n1"])
    cluster.run("dns", "publish", "kept", "A", "192.0.2.81")
    host = named.host("steady")
    serial = cluster.at("n1", "dns.status")["serial"]
    server = named.server("n1")
    cluster.kill_agents("n1", "hub")
    cluster.until(lambda: _short(named, server, "steady.group") == [host])
    cluster.until(lambda: _short(named, server, "kept") == ["192.0.2.81"])
    cluster.until(lambda: cluster.at("n1", "dns.status")["serial"] >= serial)
    inside = cluster.run("exec", "steady", "--", "getent", "ahostsv4", "kept.paas.internal")
    assert "192.0.2.81" in inside


def _short(named: Any, server: tuple[str, str], name: str) -> list[str]:
    words = ["dig", f"@{server[0]}", "-p", server[1], "+short", "+tries=1", "+time=1"]
    lines = named.inside("n1", *words, f"{name}.paas.internal", status=None).splitlines()
    return [line for line in lines if not line.startswith(";")]


def test_what_was_on_a_lost_node_is_named_no_more(named: Any, peer: str) -> None:
    cluster = named.cluster
    for node in ("n1", "n3"):
        cluster.create(peer, name=f"both-{node}", groups=["both"], constraints=[f"node={node}"])
    host = named.host("both-n1")
    cluster.until(lambda: len(named.name("n1", "both.group")) == 2)
    cluster.kill("n3")
    named.until("n1", "both.group", [host])
    cluster.until(lambda: len(named.name("n1", "hub.agent")) == 2)
    assert named.name("n1", "n3.node") == [cluster.machine("n3").address]
