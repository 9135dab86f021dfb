"""Backends that a file describes: the gateway by itself, for tests and for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from paas.gateway.backends import Member, OperationFailed
from paas.gateway.config import EdgeFile
from paas.gateway.messages import HttpAnswer, HttpRequest, Route
from paas.gateway.router import Router


class StaticBackends:
    """Routes and members of a file; `replace` takes a new one while requests go on."""

    def __init__(self, file: EdgeFile) -> None:
        self.router = Router()
        self._members: dict[str, list[Member]] = {}
        self.replace(file, 0.0)

    def replace(self, file: EdgeFile, now: float) -> None:
        """Members that are in both stay what they are; the others leave, or come."""
        drains = {route.group: route.drain_s for route in file.route}
        present = {m.component: m for ms in self._members.values() for m in ms}
        members: dict[str, list[Member]] = {}
        kept = set()
        for row in file.member:
            name = row.name or f"{row.group}/{row.host}:{row.port}"
            member = present.get(name)
            if member is None or (member.host, member.port) != (row.host, row.port):
                member = Member(name, row.host, row.port)
            member.weight, member.state = row.weight, "serving"
            kept.add(name)
            members.setdefault(row.group, []).append(member)
        for group, before in self._members.items():
            for member in before:
                if member.component not in kept and member.in_flight:
                    if member.state == "serving":
                        member.state = "leaving"
                        member.drain_until = now + drains.get(group, 0.0)
                    members.setdefault(group, []).append(member)
        self._members = members
        self.router = Router(file.route)

    def members(self, route: Route) -> Sequence[Member]:
        return self._members.get(route.group, ())

    def begin(self, member: Member) -> None:
        return

    def end(self, member: Member) -> None:
        if member.state == "leaving" and not member.in_flight:
            member.state = "gone"
            for group in self._members.values():
                if member in group:
                    group.remove(member)

    async def call(
        self, route: Route, request: HttpRequest, body: bytes
    ) -> tuple[HttpAnswer, bytes]:
        raise OperationFailed(502, "operations need a platform: this gateway runs by itself")

    async def open(self, route: Route, request: HttpRequest) -> HttpAnswer:
        raise OperationFailed(502, "operations need a platform: this gateway runs by itself")

    async def message(self, connection: str, kind: Literal["text", "binary"], data: bytes) -> None:
        return

    async def close(self, connection: str, code: int, reason: str) -> None:
        return
