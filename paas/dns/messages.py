"""Messages of the name service.  Numbers 680-689; its commands have the same block."""

from __future__ import annotations

import msgspec

from paas.wire.registry import Message, Params, method


class Publish(Params, frozen=True, kw_only=True):
    """Publish a record in the cluster's zone; the same one again only changes its TTL.

    `name` is within the zone (`www.shop.app`, or with the zone at its end).  `kind` is A, AAAA,
    SRV, TXT, CNAME or MX; `data` as in a zone file.  `ttl` in seconds.  A component publishes below
    the name of its application only (`….shop.app`), and for as long as it lives and is available;
    what an operator publishes stays until it is withdrawn.
    """

    name: str
    kind: str
    data: str
    ttl: int = 5
    request_id: str = ""


class Record(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A record that was published: by a component (`owner`), or else by an operator."""

    name: str
    kind: str
    data: str
    ttl: int
    owner: str = ""


class Published(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The whole name, and the zone's serial from which on it is there."""

    name: str
    serial: int


class Withdraw(Params, frozen=True, kw_only=True):
    """Withdraw published records of a name: all, those of a `kind`, or the one with this `data`.

    A component withdraws its own only.
    """

    name: str
    kind: str = ""
    data: str = ""
    request_id: str = ""


class Withdrawn(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How many records are gone, and the serial from which on."""

    count: int
    serial: int


class ListRecords(Params, frozen=True, kw_only=True):
    """List records: published ones, or with `all` the whole zone as this node answers it.

    `below` narrows it to names that end with this one.
    """

    all: bool = False
    below: str = ""
    limit: int = 1_000


class Records(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The records, by name; `more`: there are more than were asked for."""

    zone: str
    serial: int
    records: list[Record]
    more: bool = False


class GetStatus(Params, frozen=True, kw_only=True):
    """Tell where this node answers for names, what the zone is called, and its figures."""


class Status(Message, frozen=True, kw_only=True, omit_defaults=False):
    """`address`: host:port of UDP and TCP; empty: it does not answer.  `keys`: trust anchors of a
    signed zone, as DS records (RFC 4034 §5.3), one for each node that signs.
    """

    zone: str
    serial: int
    address: str
    figures: dict[str, int]
    keys: list[str] = []
    secondaries: dict[str, str] = {}
    """Secondary to what became of the last notice."""


class RecordsChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: records of these names were published or withdrawn, or agents were announced."""

    names: list[str]


PUBLISH = method(680, "dns.publish", Publish, Published)
WITHDRAW = method(681, "dns.withdraw", Withdraw, Withdrawn)
LIST = method(682, "dns.list", ListRecords, Records)
STATUS = method(683, "dns.status", GetStatus, Status)
