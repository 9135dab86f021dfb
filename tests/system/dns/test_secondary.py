"""Another program keeps a copy of the zone: nsd, told of changes, let in by address or by key."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.dns import names, records
from paas.dns.agent import DnsAgent
from paas.dns.dnssec import Signer
from paas.dns.names import Labels
from paas.dns.responder import Face, Responder
from paas.dns.server import Server, bind_both
from paas.dns.state import DnsState
from paas.dns.transfer import Secondary
from paas.dns.zone import Set, StaticZone
from paas.identity.keys import make_key
from paas.real.clock import SystemClock

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

ORIGIN = names.parse("paas.internal")
KEY, SECRET = names.parse("to-nsd"), b"0123456789abcdef0123456789abcdef"


class Changing:
    """A zone whose content a test replaces."""

    origin = ORIGIN

    def __init__(self) -> None:
        self.state = DnsState()
        self.now: StaticZone
        self.have(1)

    def have(self, count: int, signer: bytes = b"") -> None:
        """So many addresses at one name, under the next serial."""
        self.state.serial += 1
        data = tuple((0x0A000000 + n).to_bytes(4, "big") for n in range(count))
        content: dict[Labels, dict[int, Set]] = {
            (b"web", b"group"): {records.A: Set(5, data)},
            (b"ns",): {records.A: Set(5, (b"\x7f\0\0\1",))},
        }
        if signer:
            content[()] = {records.DNSKEY: Set(60, (signer,))}
        self.now = StaticZone(ORIGIN, content, self.state.serial)

    @property
    def serial(self) -> int:
        return self.now.serial

    def find(self, labels: Labels, /) -> Any:
        return self.now.find(labels)

    def names(self) -> Any:
        return self.now.names()


class Log:
    def __init__(self) -> None:
        self.heard: list[Callable[[int, Any], None]] = []

    async def propose(self, _command: Any, *, timeout_s: float = 10.0) -> Any:
        await trio.sleep_forever()

    def subscribe(self, callback: Callable[[int, Any], None]) -> Callable[[], None]:
        self.heard.append(callback)
        return lambda: self.heard.remove(callback)


def clock_s() -> float:
    return SystemClock().now_ms() / 1_000


@asynccontextmanager
async def primary(
    zone: Changing, secondary: Secondary, signer: Signer | None = None
) -> AsyncIterator[tuple[DnsAgent, Log]]:
    face, log = Face(zone), Log()
    ours = DnsAgent(
        node="n1",
        log=log,
        state=zone.state,
        zone=zone,
        server=Server(
            responder=Responder(
                now_s=clock_s,
                keys={KEY: SECRET},
                secondaries=(secondary,),
                signing=lambda z: None if signer is None else signer.signing(z),
            ),
            face_of=lambda _: face,
            now_s=time.monotonic,
            wall_s=clock_s,
        ),
        containers=face,
        agents=dict,
        keys={KEY: SECRET},
        random=os.urandom,
        on_trouble=lambda _where, _error: None,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(ours.run, ("127.0.0.1", 0), None)
        yield ours, log
        nursery.cancel_scope.cancel()


@contextmanager
def nsd(folder: Path, port: int, of: tuple[str, int], key: str) -> Any:
    """The other program, on this port; it knows nothing of the zone but where to get it."""
    config = folder / "nsd.conf"
    config.write_text(
        f"""
server:
    ip-address: 127.0.0.1@{port}
    username: ""
    zonesdir: "{folder}"
    database: ""
    zonelistfile: "{folder}/zone.list"
    xfrdfile: "{folder}/xfrd.state"
    xfrdir: "{folder}"
    pidfile: "{folder}/nsd.pid"
    logfile: "{folder}/nsd.log"
    server-count: 1
remote-control:
    control-enable: no
key:
    name: "{KEY[0].decode()}"
    algorithm: hmac-sha256
    secret: "{base64.b64encode(SECRET).decode()}"
zone:
    name: "paas.internal"
    zonefile: "{folder}/zone"
    allow-notify: 127.0.0.1 {key}
    request-xfr: AXFR {of[0]}@{of[1]} {key}
"""
    )
    process = subprocess.Popen(["nsd", "-d", "-c", str(config)], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


async def dig(port: int, *words: str) -> list[str]:
    done = await trio.run_process(
        ["dig", "@127.0.0.1", "-p", str(port), "+short", "+tries=1", "+time=1", *words],
        capture_stdout=True,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    return [line for line in lines if not line.startswith(";")]


async def until(port: int, count: int, *words: str) -> None:
    """Until the other program has so many records."""
    with trio.fail_after(30):
        while len(await dig(port, *words)) != count:  # noqa: ASYNC110
            await trio.sleep(0.1)


@pytest.mark.parametrize("by", ["address", "key"])
async def test_nsd_has_a_copy_and_follows_every_change(tmp_path: Path, by: str) -> None:
    udp, tcp = await bind_both("127.0.0.1", 0)
    port = udp.getsockname()[1]
    udp.close()
    await tcp.aclose()
    secondary = Secondary("127.0.0.1", port, KEY if by == "key" else ())
    zone = Changing()
    key = "to-nsd" if by == "key" else "NOKEY"
    async with primary(zone, secondary) as (ours, log):
        assert ours.address is not None
        with nsd(tmp_path, port, ours.address, key):
            await until(port, 1, "web.group.paas.internal")
            for count in (3, 0, 2_500):
                zone.have(count)
                for callback in log.heard:
                    callback(zone.serial, ())
                await until(port, count, "+tcp", "web.group.paas.internal")
            soa = await dig(port, "paas.internal", "SOA")
            assert soa[0].split()[2] == str(zone.serial)
            assert ours.notices == {f"127.0.0.1:{port}": f"heard of {zone.serial}"}
    refused = "refused" in (tmp_path / "nsd.log").read_text()
    assert not refused


async def test_nsd_serves_a_signed_copy_that_another_program_finds_valid(tmp_path: Path) -> None:
    udp, tcp = await bind_both("127.0.0.1", 0)
    port = udp.getsockname()[1]
    udp.close()
    await tcp.aclose()
    signer = Signer(ORIGIN, make_key(), clock_s)
    zone = Changing()
    zone.have(3, signer.data)
    async with primary(zone, Secondary("127.0.0.1", port), signer) as (ours, _):
        assert ours.address is not None
        with nsd(tmp_path, port, ours.address, "NOKEY"):
            await until(port, 3, "web.group.paas.internal")
            said = await _delv(tmp_path, port, signer, "web.group.paas.internal")
            assert "; fully validated" in said
            said = await _delv(tmp_path, port, signer, "nobody.paas.internal")
            assert "negative response, fully validated" in said


async def _delv(folder: Path, port: int, signer: Signer, name: str) -> str:
    from paas.dns.dnssec import ds_text

    ds = ds_text(ORIGIN, signer.data).split()
    anchors = folder / "anchors"
    anchors.write_text(
        f'trust-anchors {{ {ds[0]} static-ds {ds[3]} {ds[4]} {ds[5]} "{ds[6]}"; }};\n'
    )
    words = ["delv", "@127.0.0.1", "-p", str(port), "-a", str(anchors), "+root=paas.internal", name]
    done = await trio.run_process(words, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode()
