"""Answers to `dns-01` by the cluster's own name service (io).

    _acme-challenge.example.org   CNAME   _acme-challenge.example.org.gateway.app.<zone>
        set once, by a person, where example.org is          TXT: published here, and withdrawn

A component publishes below its application only, so the answer is there, whatever the name; the
authority follows the alias (RFC 8555 §8.4).  What a gateway that dies had published ends with it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from paas.base.errors import PlatformError
from paas.gateway.component.channel import Channel

BELOW = "gateway.app"
"""The name of the gateways' application (bundle.py)."""

ASK_S = 10.0
TTL_S = 1
"""Two answers for one name follow each other when a wildcard stands beside its domain."""


class ClusterRecords:
    """`Records` of the ACME client."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def publish(self, name: str, text: str) -> None:
        await self._ask("dns.publish", name, text, ttl=TTL_S)

    async def withdraw(self, name: str, text: str) -> None:
        with suppress(PlatformError):  # one that stays proves nothing once its order is over
            await self._ask("dns.withdraw", name, text)

    async def _ask(self, method: str, name: str, text: str, **more: Any) -> None:
        params = {"name": f"{name}.{BELOW}", "kind": "TXT", "data": text, "timeout": ASK_S, **more}
        await self._channel.ask(method, params, dict, timeout_s=ASK_S)
