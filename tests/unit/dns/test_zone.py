"""What names mean: components, groups, nodes, agents, applications, and what was published."""

from __future__ import annotations

import dnslib
import pytest

from paas.dns import names, records
from paas.dns.cluster import Endpoint, Machine
from paas.dns.names import Labels
from paas.dns.responder import Face
from paas.dns.zone import Set
from tests.unit.dns.world import (
    Cluster,
    asked,
    code_of,
    data_of,
    member,
    small_cluster,
    static,
    zone,
)

ZONE = "paas.internal"


@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [
        ("web.component", "A", ["10.64.0.1"]),
        (f"{2:040x}.component", "A", ["10.64.0.2"]),
        ("web.group", "A", ["10.64.0.1", "10.64.0.2"]),
        ("web.group", "TXT", ['"10.64.0.1:8000"', '"10.64.0.2:8000"']),
        ("shop.app", "A", ["10.64.0.1", "10.64.0.2"]),
        ("www.shop.app", "A", ["192.0.2.9"]),
        ("n1.node", "A", ["192.0.2.1"]),
        ("n2.node", "A", ["192.0.2.2"]),
        ("n2.node", "TXT", ['"state=offline"']),
        ("hub.agent", "SRV", [f"10 10 7420 n1.node.{ZONE}."]),
        ("hub.agent", "A", ["192.0.2.1"]),
        ("_hub._tcp.agent", "SRV", [f"10 10 7420 n1.node.{ZONE}."]),
        (
            "_http._tcp.web.group",
            "SRV",
            [f"10 10 8000 {1:040x}.component.{ZONE}.", f"20 10 8000 {2:040x}.component.{ZONE}."],
        ),
        ("_http._tcp.web.component", "SRV", [f"10 10 8000 {1:040x}.component.{ZONE}."]),
        ("_http._tcp.web.group", "TXT", ['"10.64.0.1:8000"', '"10.64.0.2:8000"']),
        ("", "NS", [f"n1.node.{ZONE}."]),
    ],
)
def test_what_names_mean(name: str, kind: str, data: list[str]) -> None:
    answer = asked(Face(zone()), f"{name}.{ZONE}".lstrip("."), kind)
    assert (code_of(answer), data_of(answer)) == ("NOERROR", data)
    assert answer.header.aa


def test_answers_are_believed_for_seconds() -> None:
    """What may end at any moment, for the fewest."""
    found = {}
    for name in ("web.component", "web.group", "shop.app", "www.shop.app", "n1.node", "hub.agent"):
        (found[name],) = {rr.ttl for rr in asked(Face(zone()), f"{name}.{ZONE}").rr}
    assert found.pop("n1.node") == 15
    assert set(found.values()) <= {5, 15}
    assert [found[name] for name in ("web.component", "web.group", "shop.app")] == [5, 5, 5]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("web.component", "AAAA"),  # there is none of that kind
        (f"{3:040x}.component", "A"),  # it is there, and not available
        ("ill.group", "A"),  # nobody in it is available
        ("group", "A"),  # it is above names
        ("_tcp.web.group", "A"),
        ("_tcp.agent", "A"),
        ("_http._tcp.ill.group", "SRV"),
        ("", "A"),
    ],
)
def test_what_is_there_without_data_has_an_empty_answer(name: str, kind: str) -> None:
    answer = asked(Face(zone()), f"{name}.{ZONE}".lstrip("."), kind)
    assert (code_of(answer), data_of(answer)) == ("NOERROR", [])
    assert [rr.rtype for rr in answer.auth] == [dnslib.QTYPE.SOA]


@pytest.mark.parametrize(
    "name",
    [
        "nobody.component",
        "nothing.group",
        "n9.node",
        "mail.agent",
        "_mail._tcp.web.group",
        "_http._udp.web.group",
        "other.app",
        "else",
        "component.web",
    ],
)
def test_what_nobody_bears_does_not_exist(name: str) -> None:
    answer = asked(Face(zone()), f"{name}.{ZONE}")
    assert code_of(answer) == "NXDOMAIN"
    (soa,) = answer.auth
    assert (soa.rtype, soa.ttl, soa.rdata.times[4]) == (dnslib.QTYPE.SOA, 2, 2)


def test_an_endpoint_for_its_own_node_is_told_there_only() -> None:
    own = Endpoint("admin", "tcp", "10.64.0.1", "", 9000, own_node=True)
    here = member(1, "db", "n1", endpoints=(own,))
    there = member(2, "", "n2", endpoints=(own._replace(host="10.64.8.2"),))
    cluster = Cluster(all=[here, there], grouped={"db": [here, there]})
    assert data_of(asked(Face(zone(cluster)), f"db.group.{ZONE}")) == ["10.64.0.1"]
    assert data_of(asked(Face(zone(cluster, local=False)), f"db.group.{ZONE}")) == []
    answer = asked(Face(zone(cluster, local=False)), f"_admin._tcp.db.group.{ZONE}", "SRV")
    assert (code_of(answer), data_of(answer)) == ("NOERROR", [])


def test_both_versions_of_addresses_and_udp() -> None:
    endpoint = Endpoint("dns", "udp", "10.64.0.1", "fd00::1", 53)
    cluster = Cluster(all=[member(1, "ns", endpoints=(endpoint,))])
    face = Face(zone(cluster))
    assert data_of(asked(face, f"ns.component.{ZONE}", "AAAA")) == ["fd00::1"]
    assert len(data_of(asked(face, f"_dns._udp.ns.component.{ZONE}", "SRV"))) == 1
    assert code_of(asked(face, f"_dns._tcp.ns.component.{ZONE}", "SRV")) == "NXDOMAIN"


def test_srv_answers_bring_the_addresses_along() -> None:
    answer = asked(Face(zone()), f"_http._tcp.web.group.{ZONE}", "SRV")
    found = {str(rr.rname): str(rr.rdata) for rr in answer.ar if rr.rtype == dnslib.QTYPE.A}
    assert found == {
        f"{1:040x}.component.{ZONE}.": "10.64.0.1",
        f"{2:040x}.component.{ZONE}.": "10.64.0.2",
    }


def test_names_with_dots_have_something_above_them() -> None:
    cluster = Cluster(all=[member(1, "a.b")], grouped={"x.y.z": [member(1)]})
    face = Face(zone(cluster))
    assert data_of(asked(face, f"a.b.component.{ZONE}")) == ["10.64.0.1"]
    for name in ("b.component", "y.z.group", "z.group"):
        assert code_of(asked(face, f"{name}.{ZONE}")) == "NOERROR"
    assert code_of(asked(face, f"a.component.{ZONE}")) == "NXDOMAIN"


def test_a_cname_is_followed_within_the_zone_and_shown_beyond_it() -> None:
    alias = {records.CNAME: [names.wire(names.parse(f"b.{ZONE}"))]}
    out = {records.CNAME: [names.wire(names.parse("www.example.com"))]}
    ring = {records.CNAME: [names.wire(names.parse(f"r.{ZONE}"))]}
    lost = {records.CNAME: [names.wire(names.parse(f"gone.{ZONE}"))]}
    content = {"a": alias, "b": {records.A: [b"\x0a\0\0\1"]}, "o": out, "r": ring, "l": lost}
    face = Face(static(content))
    assert data_of(asked(face, f"a.{ZONE}")) == [f"b.{ZONE}.", "10.0.0.1"]
    assert data_of(asked(face, f"a.{ZONE}", "CNAME")) == [f"b.{ZONE}."]
    assert data_of(asked(face, f"o.{ZONE}")) == ["www.example.com."]
    assert code_of(asked(face, f"r.{ZONE}")) == "SERVFAIL"
    answer = asked(face, f"l.{ZONE}")  # RFC 6604 §3: the code is of the last name
    assert (code_of(answer), len(answer.rr), len(answer.auth)) == ("NXDOMAIN", 1, 1)


def test_who_asks_for_everything_gets_one_small_record() -> None:
    answer = asked(Face(zone()), f"web.group.{ZONE}", "ANY")
    assert [rr.rtype for rr in answer.rr] == [dnslib.QTYPE.HINFO]
    assert b"RFC8482" in answer.pack()


def test_the_nearest_come_first_and_the_others_take_turns() -> None:
    near = [member(n, node="n1") for n in (1, 2)]
    far = [member(n, node="n2") for n in (11, 12, 13)]
    cluster = Cluster(all=[*near, *far], grouped={"web": [*far, *near]})
    face = Face(zone(cluster))
    seen = [tuple(data_of(asked(face, f"web.group.{ZONE}"))) for _ in range(12)]
    assert all({*told[:2]} == {"10.64.0.1", "10.64.0.2"} for told in seen)
    assert {told[0] for told in seen} == {"10.64.0.1", "10.64.0.2"}
    assert {told[2] for told in seen} == {"10.64.0.11", "10.64.0.12", "10.64.0.13"}


def test_a_large_group_is_told_in_part_the_nearest_first() -> None:
    crowd = [
        member(n, node="n2", endpoints=(Endpoint("h", "tcp", f"10.65.{n >> 8}.{n & 255}", "", 1),))
        for n in range(700)
    ]
    cluster = Cluster(grouped={"web": [*crowd, member(9, node="n1")]})
    found = zone(cluster).find((b"web", b"group"))
    assert found is not None
    assert len(found[records.A].all) == 512
    assert found[records.A].near == (b"\x0a\x40\x00\x09",)


def test_published_records_join_those_that_follow_from_the_state() -> None:
    cluster = small_cluster()
    cluster.told[b"shop", b"app"] = {records.TXT: Set(9, (records.txt(b"v=1"),))}
    face = Face(zone(cluster))
    assert data_of(asked(face, f"shop.app.{ZONE}", "TXT")) == ['"v=1"']
    assert data_of(asked(face, f"shop.app.{ZONE}")) == ["10.64.0.1", "10.64.0.2"]


def test_every_name_that_has_records_is_listed_once() -> None:
    found = zone()
    listed = list(found.names())
    assert len(listed) == len(set(listed))
    assert {(), (b"n1", b"node"), (b"web", b"group"), (b"www", b"shop", b"app")} <= set(listed)
    assert (b"_http", b"_tcp", b"web", b"group") in listed
    for labels in listed:
        assert found.find(labels) is not None, labels


def test_names_that_no_host_could_bear_are_not_listed() -> None:
    cluster = Cluster(grouped={"Äpfel": [member(1)], "a b": [member(1)], "Up": [member(1)]})
    assert [labels for labels in zone(cluster).names() if labels] == []


def test_a_node_without_a_network_is_found_where_it_answers_for_names() -> None:
    alone = Machine("n1", True, "", {"dns": ("127.0.0.1", 5300)}, "available")
    face = Face(zone(Cluster(nodes=[alone])))
    assert data_of(asked(face, f"n1.node.{ZONE}")) == ["127.0.0.1"]
    assert data_of(asked(face, ZONE, "NS")) == [f"n1.node.{ZONE}."]


@pytest.mark.parametrize("labels", [(b"x" * 63,) * 4, (b"a",) * 127])
def test_the_longest_names_are_looked_up(labels: Labels) -> None:
    assert zone().find(labels) is None
