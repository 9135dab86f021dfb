"""The gateway as a component: what its bundle runs (io).

    configured ─> group joined, routes followed ─> listening ─> ready ─> … ─> asked to end: drained

Configuration (all may be missing):

    group         the group of gateways that it joins; default `gateways`
    data_path     `built-in`; `haproxy`: requests of endpoint routes go through HAProxy; `auto`,
                  the default: through HAProxy where it is installed and can be used
    haproxy       fields of `HaproxySettings` but the addresses and the folder: `threads`,
                  `connections_max`, `cookie_key`, `checks`
    acme          certificates from an authority (join.py)
    edge          fields of `EdgeConfig` but the addresses: `access_log`, `limits`, `http2`,
                  `trusted_proxies`, `certificates`, `static`

It listens at its endpoints `http` and `https`, of which the second needs `certificates`.  What is
under way when it is asked to end is answered, in bounded time; then the program ends.  Which data
path it has, and why, it says in its log and by its attribute `data_path`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.gateway.component.channel import Channel, open_channel
from paas.gateway.component.join import behind_carrier, carrier_of, chosen_data_path, joined_acme
from paas.gateway.component.live import LiveBackends
from paas.gateway.config import EdgeConfig
from paas.gateway.edge import Edge
from paas.gateway.messages import DATA_PATH

CONFIGURED_S = 10.0
JOIN_S = 15.0
GROUP = "gateways"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's text.  What else is configured belongs to other parts."""

    group: str = GROUP
    data_path: Literal["built-in", "haproxy", "auto"] = "auto"
    haproxy: dict[str, Any] = {}
    acme: dict[str, Any] = {}
    edge: dict[str, Any] = {}


class Gateway:
    """One gateway component, from its channel to its end."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.stopping = trio.Event()
        self.configuration: dict[str, Any] | None = None
        self._configured = trio.Event()
        channel.on_configure = self._configure
        channel.on_terminate = self._terminate

    def _configure(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration
        self._configured.set()

    def _terminate(self, _reason: str) -> bool:
        self.stopping.set()
        return True

    async def run(self) -> None:
        """Until asked to end, or the harness is gone."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.channel.run)
            nursery.start_soon(self._stop_when_lost)
            nursery.start_soon(self._stop_by_signal)
            with trio.move_on_after(CONFIGURED_S):
                await self._configured.wait()
            settings = settings_of(self.configuration or {})
            if settings.group:
                params = {"groups": [settings.group], "timeout": JOIN_S}
                await self.channel.ask("hub.join", params, dict, timeout_s=JOIN_S)
            backends = LiveBackends(self.channel, random.random)
            await nursery.start(backends.run)
            config = edge_config(settings, os.environ)
            acme = joined_acme(settings.acme, config) if settings.acme else None
            config = acme.config if acme is not None else config
            program, said = await chosen_data_path(settings.data_path, settings.haproxy, config)
            self._tell_data_path(said)
            edge = Edge(behind_carrier(config) if program else config, backends)
            backends.edge = edge
            self.channel.on_invoke = backends.invoked
            await nursery.start(edge.run)
            if program:
                carrier = carrier_of(program, settings.haproxy, config, edge)
                backends.carry(carrier)
                await nursery.start(carrier.run)
            if acme is not None:
                nursery.start_soon(acme.run, edge, self.channel, settings.group)
            self.channel.tell("component.ready", {})
            await self.stopping.wait()
            self.channel.tell("component.unavailable", {"reason": "it ends"})
            edge.finish()
            await edge.wait_ended()
            nursery.cancel_scope.cancel()

    def _tell_data_path(self, said: str) -> None:
        sys.stdout.write(f"data path: {said}\n")
        sys.stdout.flush()
        self.channel.tell("hub.set_attributes", {"attributes": {DATA_PATH: said}})

    async def _stop_when_lost(self) -> None:
        await self.channel.closed.wait()
        self.stopping.set()

    async def _stop_by_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self.stopping.set()


def settings_of(configuration: dict[str, Any]) -> Settings:
    """Raises `invalid` naming the field."""
    try:
        return msgspec.convert(configuration, Settings)
    except msgspec.ValidationError as exc:
        raise invalid("configuration", str(exc)) from None


def edge_config(settings: Settings, environment: Any) -> EdgeConfig:
    """The data path's configuration: addresses from the environment.  Raises `invalid`."""
    plain = dict(settings.edge)
    secure = environment.get("PAAS_ENDPOINT_HTTPS", "")
    plain["listen"] = [a for a in [environment.get("PAAS_ENDPOINT_HTTP", "")] if a]
    plain["tls"] = [secure] if secure and (plain.get("certificates") or settings.acme) else []
    plain.setdefault("static", str(Path("static").resolve()))
    try:
        return msgspec.convert(plain, EdgeConfig)
    except msgspec.ValidationError as exc:
        raise invalid("configuration.edge", str(exc)) from None


async def run() -> None:
    await Gateway(Channel(open_channel())).run()


def main() -> int:
    """The status of the program."""
    status = 0
    try:
        trio.run(run)
    except* PlatformError as group:
        status = 1
        for exc in group.exceptions:
            sys.stderr.write(f"error: {exc}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
