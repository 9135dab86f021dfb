"""What a manifest may allow of the world, and which names its entries cover."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.bundle.egress import ALLOW_MAX, Destination, check, has_names, parse
from paas.bundle.manifest import from_plain
from paas.bundle.manifest import parse as parse_manifest

BASE: dict[str, Any] = {"component": {"name": "a", "version": "1", "command": ["./run"]}}


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("API.example.com:443", Destination("api.example.com", "", "tcp", 443)),
        ("*.example.org:80/tcp", Destination("*.example.org", "", "tcp", 80)),
        ("192.0.2.7:53/udp", Destination("", "192.0.2.7/32", "udp", 53)),
        ("192.0.2.7/24:5432", Destination("", "192.0.2.0/24", "tcp", 5432)),
        ("0.0.0.0/0:443", Destination("", "0.0.0.0/0", "tcp", 443)),
    ],
)
def test_entries_are_names_or_networks_with_a_port(entry: str, wanted: Destination) -> None:
    assert parse(entry) == wanted
    assert parse(str(wanted)) == wanted, "the canonical form is an entry"


@pytest.mark.parametrize(
    "entry",
    [
        *("", "example.com", "example.com:0", "example.com:65536", "example.com:https", ":80"),
        *("localhost:80", "*:80", "*.com.:80", "a..b:80", "-a.com:80", "a.*.com:80", "*.*.com:80"),
        *("300.1.1.1:80", "10.0.0.0/33:80", "10.0.0:80", "fd00::1:80", "example.com:80/icmp"),
        *("exa mple.com:80", "example.com:80\n", "a" * 250 + ".com:80", "xn--\u00e4.com:80"),
    ],
)
def test_other_entries_are_refused(entry: str) -> None:
    with pytest.raises(ValueError):
        parse(entry)


def test_a_star_covers_names_below_and_a_name_itself() -> None:
    star, name = parse("*.example.org:1"), parse("example.org:1")
    assert star.covers("a.example.org")
    assert star.covers("a.b.example.org")
    assert not star.covers("example.org")
    assert not star.covers("badexample.org")
    assert name.covers("example.org")
    assert not name.covers("a.example.org")
    assert not parse("192.0.2.1:1").covers("192.0.2.1")
    assert not parse("192.0.2.1:1").covers("")


def test_the_canonical_form_is_sorted_without_repetitions() -> None:
    assert check(["b.example.com:1", "A.example.com:1/tcp", "a.example.com:1"]) == (
        "a.example.com:1",
        "b.example.com:1",
    )
    assert check([]) == ()
    assert has_names(["192.0.2.1:1", "a.example.com:1"])
    assert not has_names(["192.0.2.1:1"])


@pytest.mark.parametrize("value", ["a.example.com:1", [1], None, ["a.example.com:1"] * 99, {}])
def test_what_is_no_list_of_entries_is_refused(value: object) -> None:
    assert ALLOW_MAX < 99
    with pytest.raises(ValueError):
        check(value)


@given(st.text(max_size=40))
def test_whatever_is_written_is_an_entry_or_a_value_error(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert parse(str(found)) == found


def test_a_manifest_says_it_and_its_canonical_form_is_a_manifest() -> None:
    plain = BASE | {"egress": {"allow": ["b.example.com:443", "10.0.0.0/8:5432"]}}
    manifest = from_plain(plain)
    assert manifest.egress.allow == ("10.0.0.0/8:5432", "b.example.com:443")
    assert from_plain(manifest.to_plain()) == manifest
    assert from_plain(BASE).egress.allow == ()


def test_what_is_wrong_in_a_manifest_is_named_with_its_line() -> None:
    text = (
        b'[component]\nname = "a"\nversion = "1"\ncommand = ["x"]\n[egress]\nallow = ["nowhere"]\n'
    )
    with pytest.raises(PlatformError, match=r"component.toml:6: egress.allow: expected a list"):
        parse_manifest(text)


@pytest.mark.parametrize(
    ("endpoints", "field"),
    [
        ({"web": {"publish": 80}}, "endpoints.web.publish"),
        ({"web": {"publish": 80, "scope": "node"}}, "endpoints.web.publish"),
        ({"web": {"publish": 65_536, "scope": "internet"}}, "endpoints.web.publish"),
        ({"web": {"scope": "world"}}, "endpoints.web.scope"),
        (
            {"a": {"publish": 80, "scope": "internet"}, "b": {"publish": 80, "scope": "internet"}},
            "endpoints.b.publish",
        ),
    ],
)
def test_published_ports_are_for_the_internet_and_different(
    endpoints: dict[str, Any], field: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        from_plain(BASE | {"endpoints": endpoints})
    assert caught.value.data["field"] == field


def test_an_endpoint_has_a_scope_and_a_port() -> None:
    given = {"web": {"protocol": "http", "scope": "internet", "publish": 8080}, "own": {}}
    manifest = from_plain(BASE | {"endpoints": given})
    assert (manifest.endpoints["web"].scope, manifest.endpoints["web"].publish) == (
        "internet",
        8080,
    )
    assert (manifest.endpoints["own"].scope, manifest.endpoints["own"].publish) == ("cluster", 0)
    assert from_plain(manifest.to_plain()) == manifest
