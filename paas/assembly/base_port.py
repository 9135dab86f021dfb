"""Base layers between hub and container controller: what a start needs, and what is over.

start order with base NAME ── image known? layers on this node? ──> container.prepare_base
    └─> order with the base that was laid out, and the image's variables and command as defaults
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container import base_methods as methods
from paas.container.client import ContainersClient
from paas.controller.ports import StartOrder
from paas.layers import limits
from paas.layers.agent import Images
from paas.layers.state import HOST, Image


class BasePort:
    """Implements `layers.agent.Bases`; `images` is set when the hub has them."""

    images: Images | None = None

    def __init__(self, client: ContainersClient) -> None:
        self._client = client

    async def retain(self, chains: Sequence[str]) -> None:
        """Drop what was laid out of other images and is not in use."""
        await self._client.call(
            methods.RETAIN,
            methods.RetainBases(chains=list(chains)),
            timeout_s=limits.RETAIN_TIMEOUT_S,
        )

    async def check(self, chain: str) -> tuple[bool, list[str]]:
        """Is it laid out, and which of its files are damaged?"""
        found = await self._client.call(
            methods.CHECK, methods.CheckBase(chain=chain), timeout_s=limits.VERIFY_TIMEOUT_S
        )
        return found.present, found.damaged

    async def prepared(self, order: StartOrder) -> StartOrder:
        """The order as the container controller can carry it out.

        Raises `invalid` for a base that nobody knows, `not-available` while its layers do not come.
        """
        if order.base == HOST or self.images is None:
            return order
        try:
            image = await self.images.ensure(order.base)
        except PlatformError as exc:
            if exc.code != "no-such-target":
                raise
            raise PlatformError(
                "invalid",
                f"base: no image is called {order.base!r}",
                hint=f"make it known: paas images build {order.base}, or paas images import PATH",
                field="base",
            ) from None
        try:
            base = await self._prepare(order.component, image)
        except PlatformError as exc:
            if exc.code != "corrupt":
                raise
            image = await self.images.ensure(order.base, doubt=True)
            base = await self._prepare(order.component, image)
        defaults = image.defaults
        return replace(
            order,
            base=base,
            command=order.command or defaults.command,
            directory="" if order.command else defaults.directory,
            environment={**defaults.environment, **order.environment},
        )

    async def _prepare(self, component: str, image: Image) -> str:
        layers = [
            methods.BaseLayer(digest=x.digest, size=x.size, diff_id=x.diff_id) for x in image.layers
        ]
        prepared = await self._client.call(
            methods.PREPARE,
            methods.PrepareBase(component=component, layers=layers),
            timeout_s=limits.PREPARE_TIMEOUT_S,
        )
        return prepared.base
