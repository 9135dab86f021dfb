"""What a gateway component may have beside the built-in data path: HAProxy before it, ACME (io).

    browser ──> HAProxy (the endpoints' addresses) ── endpoint routes ──> members
                    └── all else ──> edge on loopback, which believes what HAProxy says of browsers

    acme:  directory      URL of the authority
           names          lists of host names, one for each certificate
           contact        mail addresses
           challenge      `http-01`, or `dns-01` (records.py), which wildcards need
           folder         for account and certificates; a volume, or else a folder in memory
           fetcher        settings of the HTTP client (`authorities`, `private`)

Of a group of gateways one orders at a time: who holds the unique group name `<group>.acme`.  The
others answer its challenges and take its certificates (group.py).
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.fetcher.client import Fetcher, settings_of
from paas.gateway.acme.agent import Acme, AcmeSettings
from paas.gateway.acme.client import Kind, Solvers
from paas.gateway.acme.store import write
from paas.gateway.component.channel import Channel
from paas.gateway.component.group import GroupCertificates
from paas.gateway.component.records import ClusterRecords
from paas.gateway.config import EdgeConfig
from paas.gateway.edge import Edge
from paas.gateway.haproxy.agent import Haproxy
from paas.gateway.haproxy.settings import HaproxySettings
from paas.identity import host_csr, keys

LOOPBACK = "127.0.0.1"
STAND_IN_LIFE_S = 10 * 365 * 86_400
DataPath = Literal["built-in", "haproxy", "auto"]


PROGRAMS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
OLDEST = (2, 6)
"""The first HAProxy whose configuration and runtime API are as this package needs them."""

TELL_S = 5.0
_VERSION = re.compile(r"version ([0-9]+)\.([0-9]+)[^ ]*")


class DataPathChoice(NamedTuple):
    """The program that carries endpoint routes, empty: nobody but the edge; said for people."""

    program: str
    said: str


async def chosen_data_path(
    data_path: DataPath, plain: dict[str, Any], config: EdgeConfig, programs: str = PROGRAMS
) -> DataPathChoice:
    """Raises `unsupported` when HAProxy has to carry and cannot; `invalid` for its settings."""
    if data_path == "built-in":
        return DataPathChoice("", "built-in: as configured")
    found = shutil.which("haproxy", path=programs) or ""
    version, trouble = "", "HAProxy is not installed here"
    if found:
        version, trouble = await _tried(found, plain, config)
    if not trouble:
        return DataPathChoice(found, f"haproxy {version}")
    if data_path == "haproxy":
        raise PlatformError(
            "unsupported", f"data_path: {trouble}", hint="install it, or say data_path = auto"
        )
    return DataPathChoice("", f"built-in: {trouble}")


async def _tried(program: str, plain: dict[str, Any], config: EdgeConfig) -> tuple[str, str]:
    """The version, and why this HAProxy cannot be used; empty when it can."""
    with trio.move_on_after(TELL_S):
        done = await trio.run_process(
            [program, "-v"], capture_stdout=True, capture_stderr=True, check=False
        )
        version = _VERSION.search(done.stdout.decode("utf-8", "replace"))
        if version is None:
            return "", "HAProxy does not say its version"
        if (int(version[1]), int(version[2])) < OLDEST:
            return "", f"HAProxy {version[1]}.{version[2]} is too old, {OLDEST[0]}.{OLDEST[1]} does"
        carrier = _carrier(program, plain, config, f"{LOOPBACK}:9")
        try:
            return version[0].split()[1], await carrier.refusal()
        finally:
            shutil.rmtree(carrier.settings.folder, ignore_errors=True)
    return "", "HAProxy does not answer"


def behind_carrier(config: EdgeConfig) -> EdgeConfig:
    """The edge's configuration when HAProxy is before it."""
    return msgspec.structs.replace(
        config,
        listen=[f"{LOOPBACK}:0"],
        tls=[],
        trusted_proxies=[*config.trusted_proxies, f"{LOOPBACK}/32"],
    )


def carrier_of(program: str, plain: dict[str, Any], config: EdgeConfig, edge: Edge) -> Haproxy:
    """HAProxy at the addresses of `config`, before an edge that listens.  Raises `invalid`."""
    host, port = edge.addresses[0]
    return _carrier(program, plain, config, f"{host}:{port}")


def _carrier(program: str, plain: dict[str, Any], config: EdgeConfig, behind: str) -> Haproxy:
    ours = {
        "folder": tempfile.mkdtemp(prefix="hx", dir=_in_memory()),
        "listen": tuple(config.listen),
        "tls": tuple(config.tls),
        "certificates": config.certificates,
        "edge": behind,
        "trusted": tuple(config.trusted_proxies),
        "connections_per_source_max": config.edge_limits().connections_per_source_max,
        "program": program,
        "http2": config.http2,
        "access_log": config.access_log,
    }
    try:
        return Haproxy(msgspec.convert({**plain, **ours}, HaproxySettings))
    except msgspec.ValidationError as exc:
        raise invalid("configuration.haproxy", str(exc)) from None


class AcmeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the module's text."""

    directory: str
    names: list[list[str]]
    contact: list[str] = []
    challenge: Kind = "http-01"
    folder: str = ""
    fetcher: dict[str, Any] = {}


class JoinedAcme:
    """Certificates from an authority, for one gateway."""

    def __init__(self, settings: AcmeConfig, config: EdgeConfig) -> None:
        self._settings = settings
        folder = settings.folder or tempfile.mkdtemp(prefix="acme", dir=_in_memory())
        self.config = msgspec.structs.replace(
            config, certificates=config.certificates or f"{folder}/certificates"
        )
        self._folder = folder
        default = Path(self.config.certificates) / "default.pem"
        if not default.exists():
            key = keys.make_key()
            shown = host_csr.stand_in(key, time.time(), STAND_IN_LIFE_S)
            write(default, keys.key_pem(key) + shown)

    async def run(self, edge: Edge, channel: Channel, group: str) -> None:
        """Until cancelled."""
        settings = AcmeSettings(
            directory=self._settings.directory,
            names=tuple(tuple(names) for names in self._settings.names),
            folder=f"{self._folder}/account",
            certificates=self.config.certificates,
            contact=tuple(self._settings.contact),
            challenge=self._settings.challenge,
        )
        try:
            fetching = settings_of(self._settings.fetcher)
        except ValueError as exc:
            raise invalid("configuration.acme.fetcher", str(exc)) from None

        def changed() -> None:
            with suppress(PlatformError):
                if edge.certificates is not None:
                    edge.reload_certificates()

        async with Fetcher(fetching) as fetcher:
            others = GroupCertificates(channel, edge, group, self.config.certificates)
            channel.on_invoke = others.answering(channel.on_invoke)
            solvers = Solvers(http=others, dns=ClusterRecords(channel))
            await Acme(
                settings, fetcher, solvers, lease=others, peers=others, changed=changed
            ).run()


def joined_acme(plain: dict[str, Any], config: EdgeConfig) -> JoinedAcme:
    """Raises `invalid`."""
    try:
        return JoinedAcme(msgspec.convert(plain, AcmeConfig), config)
    except msgspec.ValidationError as exc:
        raise invalid("configuration.acme", str(exc)) from None


def _in_memory() -> str | None:
    """A folder whose files are in memory only, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
