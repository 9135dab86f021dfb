"""What the ACME client asks of the gateway that it is part of."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Challenges(Protocol):
    """Answers to `http-01`, on port 80 of every gateway that the names lead to."""

    async def show(self, token: str, text: str) -> None:
        """Answer `/.well-known/acme-challenge/<token>` with the text, from now on, everywhere."""

    async def hide(self, token: str) -> None:
        """No more."""


class Records(Protocol):
    """Answers to `dns-01`: the name service's `dns.publish`, or another one's API."""

    async def publish(self, name: str, text: str) -> None:
        """A TXT record of this whole name, from now on."""

    async def withdraw(self, name: str, text: str) -> None:
        """No more."""


class Lease(Protocol):
    """Who of a group of gateways orders: one at a time."""

    def held(self) -> AbstractAsyncContextManager[bool]:
        """True inside, if this gateway has it; it is given back at the end, or when this dies."""


class Peers(Protocol):
    """The other gateways of the group, over their own encrypted channels."""

    async def certificate(self, names: tuple[str, ...]) -> bytes | None:
        """The newest one that another gateway has for these names: key and chain, PEM."""


class Alone:
    """A gateway without others: it always has the lease, and nobody else has certificates."""

    def held(self) -> AbstractAsyncContextManager[bool]:
        return _Held()

    async def certificate(self, names: tuple[str, ...]) -> bytes | None:
        return None


class _Held:
    async def __aenter__(self) -> bool:
        return True

    async def __aexit__(self, *_: object) -> None:
        return None
