"""What an operator may choose about names."""

from __future__ import annotations

from typing import Any

import pytest

from paas.dns.settings import DnsSettings, address_of, read
from paas.dns.transfer import Secondary


def test_nothing_chosen_is_the_defaults() -> None:
    assert read({}) == DnsSettings()
    assert read({}).origin == (b"paas", b"internal")


def test_everything_can_be_chosen() -> None:
    found = read(
        {
            "zone": "Lab.Example.",
            "listen": "192.0.2.1:53",
            "secondaries": ["192.0.2.9/key"],
            "forwarders": ["192.0.2.53", "192.0.2.54:5353"],
            "sign": True,
            "rate": 0,
        }
    )
    assert found.zone == "lab.example"
    assert found.secondaries == (Secondary("192.0.2.9", 53, (b"key",)),)
    assert found.forwarders == (("192.0.2.53", 53), ("192.0.2.54", 5353))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"zones": "x"}, "zones"),
        ({"zone": "a b"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"listen": "port"}, "listen"),
        ({"listen": "host:53"}, "listen"),
        ({"listen": 53}, "listen"),
        ({"secondaries": "192.0.2.9"}, "secondaries"),
        ({"secondaries": ["host"]}, "secondaries"),
        ({"secondaries": ["192.0.2.9"] * 9}, "secondaries"),
        ({"forwarders": [None]}, "forwarders"),
        ({"sign": "yes"}, "sign"),
        ({"rate": -1}, "rate"),
        ({"rate": True}, "rate"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"dns.{field}"):
        read(wrong)


@pytest.mark.parametrize(
    ("listen", "hub", "where"),
    [
        ("", "", ("127.0.0.1", 0)),
        ("", "192.0.2.1:7420", ("192.0.2.1", 7422)),
        ("", "[2001:db8::1]:7420", ("2001:db8::1", 7422)),
        ("", "192.0.2.1:65535", ("192.0.2.1", 0)),
        ("", "127.0.0.1:7420", ("127.0.0.1", 0)),
        ("", "[::1]:7420", ("::1", 0)),
        ("", "lab.example:7420", ("lab.example", 7422)),
        ("192.0.2.2:53", "192.0.2.1:7420", ("192.0.2.2", 53)),
        ("[::1]:53", "", ("::1", 53)),
        ("off", "192.0.2.1:7420", None),
    ],
)
def test_where_it_listens(listen: str, hub: str, where: tuple[str, int] | None) -> None:
    assert address_of(read({"listen": listen}), hub) == where
