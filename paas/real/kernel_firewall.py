"""The packet filter for containers, in nftables; every change is one transaction.

Table `inet NAME`: a packet that comes from the containers' bridge and is for the host itself is
dropped unless it answers; one that is to be forwarded is dropped unless the set `grants` has its
(source, target, protocol, port), or it answers one that was granted.  Because only answers pass by
state, taking a grant back stops established connections too.  The host may open connections to any
endpoint.  Packets that have nothing to do with the bridge are not looked at.

Table `bridge NAME`: a port of the bridge may only use the address it was given (set `sources`).
This is a second line: a container cannot make such packets, having no raw sockets.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import trio

from paas.base.errors import PlatformError

Element = Sequence[str | int]


def _match(left: Any, right: Any, operator: str = "==") -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


def _field(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _tracked(key: str, value: str | list[str]) -> dict[str, Any]:
    return _match({"ct": {"key": key}}, value, "in" if isinstance(value, list) else "==")


_ANSWERS = [_tracked("direction", "reply"), _tracked("state", ["established", "related"])]
_GRANTED = _match(
    {
        "concat": [
            _field("ip", "saddr"),
            _field("ip", "daddr"),
            _meta("l4proto"),
            _field("th", "dport"),
        ]
    },
    "@grants",
)
_KNOWN_SOURCE = _match({"concat": [_meta("iifname"), _field("ip", "saddr")]}, "@sources")


def table_document(name: str, bridge: str, link_prefix: str) -> list[dict[str, Any]]:
    """Commands that make both tables anew, whatever was there."""
    inet, below = {"family": "inet", "name": name}, {"family": "bridge", "name": name}
    commands: list[dict[str, Any]] = []
    for table in (inet, below):
        commands += [{"add": {"table": table}}, {"delete": {"table": table}}]
        commands += [{"add": {"table": table}}]
    kinds = ["ipv4_addr", "ipv4_addr", "inet_proto", "inet_service"]
    commands.append({"add": {"set": _part(inet, "grants") | {"type": kinds}}})
    kinds = ["ifname", "ipv4_addr"]
    commands.append({"add": {"set": _part(below, "sources") | {"type": kinds}}})
    commands.append({"add": {"chain": _part(inet, "between")}})
    commands += [{"add": {"chain": _hook(inet, hook, 0)}} for hook in ("forward", "input")]
    commands.append({"add": {"chain": _hook(below, "prerouting", -300)}})
    drop, accept, decide = {"drop": None}, {"accept": None}, {"goto": {"target": "between"}}
    rules: list[tuple[dict[str, Any], str, list[dict[str, Any]]]] = [
        (inet, "forward", [_match(_meta("iifname"), bridge), decide]),
        (inet, "forward", [_match(_meta("oifname"), bridge), decide]),
        (inet, "between", [*_ANSWERS, accept]),
        (inet, "between", [_GRANTED, accept]),
        (inet, "between", [drop]),
        (inet, "input", [_match(_meta("iifname"), bridge), *_ANSWERS, accept]),
        (inet, "input", [_match(_meta("iifname"), bridge), drop]),
        (below, "prerouting", [_match(_field("ether", "type"), "arp"), accept]),
        (below, "prerouting", [_KNOWN_SOURCE, accept]),
        (below, "prerouting", [_match(_meta("iifname"), f"{link_prefix}*"), drop]),
    ]
    for table, chain, expressions in rules:
        place = {"family": table["family"], "table": name, "chain": chain}
        commands.append({"add": {"rule": place | {"expr": expressions}}})
    return commands


def _part(table: dict[str, Any], name: str) -> dict[str, Any]:
    return {"family": table["family"], "table": table["name"], "name": name}


def _hook(table: dict[str, Any], hook: str, priority: int) -> dict[str, Any]:
    how = {"type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
    return _part(table, hook) | how


def elements_command(
    verb: str, family: str, table: str, name: str, elements: Iterable[Element]
) -> list[dict[str, Any]]:
    """One command that adds elements to a set or deletes them; none for no elements."""
    listed = [{"concat": list(element)} for element in elements]
    if not listed:
        return []
    part = {"family": family, "table": table, "name": name, "elem": listed}
    return [{verb: {"element": part}}]


class Firewall:
    """The two tables of one cluster."""

    def __init__(self, table: str, bridge: str, link_prefix: str) -> None:
        self._table = table
        self._bridge = bridge
        self._link_prefix = link_prefix
        self._sources: set[tuple[str, str]] = set()
        self._grants: set[tuple[str, str, str, int]] = set()

    async def open(
        self, grants: Iterable[tuple[str, str, str, int]], sources: Iterable[tuple[str, str]]
    ) -> None:
        """Make the tables with exactly these elements, in one transaction."""
        self._grants, self._sources = set(grants), set(sources)
        document = table_document(self._table, self._bridge, self._link_prefix)
        document += self._change("add", self._grants, self._sources)
        await _apply(document)

    async def close(self) -> None:
        commands: list[dict[str, Any]] = []
        for family in ("inet", "bridge"):
            table = {"family": family, "name": self._table}
            commands += [{"add": {"table": table}}, {"delete": {"table": table}}]
        await _apply(commands)

    async def grant(self, *grants: tuple[str, str, str, int]) -> None:
        """Open paths (source, target, protocol, port)."""
        fresh = set(grants) - self._grants
        await _apply(self._change("add", fresh, set()))
        self._grants |= fresh

    async def revoke(self, *grants: tuple[str, str, str, int]) -> None:
        known = set(grants) & self._grants
        await _apply(self._change("delete", known, set()))
        self._grants -= known

    async def allow_source(self, *sources: tuple[str, str]) -> None:
        """Let these (link, address) pairs send."""
        fresh = set(sources) - self._sources
        await _apply(self._change("add", set(), fresh))
        self._sources |= fresh

    async def forget(self, link: str, address: str) -> None:
        """Remove every element that names the link or the address."""
        grants = {g for g in self._grants if address in g[:2]}
        sources = {s for s in self._sources if link == s[0]}
        await _apply(self._change("delete", grants, sources))
        self._grants -= grants
        self._sources -= sources

    def _change(
        self,
        verb: str,
        grants: Iterable[tuple[str, str, str, int]],
        sources: Iterable[tuple[str, str]],
    ) -> list[dict[str, Any]]:
        return elements_command(
            verb, "inet", self._table, "grants", sorted(grants)
        ) + elements_command(verb, "bridge", self._table, "sources", sorted(sources))


async def _apply(commands: list[dict[str, Any]]) -> None:
    if not commands:
        return
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise PlatformError("unsupported", "nft is missing", hint="install the package nftables")
    done = await trio.run_process(
        [program, "-j", "-f", "-"],
        stdin=json.dumps({"nftables": commands}).encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"nft: {lines[0] if lines else 'failed without a word'}")
