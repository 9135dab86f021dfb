"""Pebble, the test authority of Let's Encrypt, with name servers and gateways of the test."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dnslib
import trio

from paas.fetcher.addresses import networks
from paas.fetcher.client import Fetcher, Settings
from paas.gateway.acme.agent import Acme, AcmeSettings
from paas.gateway.acme.client import Kind, Solvers
from tests.system.gateway.haproxy_world import free_port, read_head


@dataclass
class Names:
    """A name server: every name is 127.0.0.1; TXT records as they are published."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)

    async def publish(self, name: str, text: str) -> None:
        self.texts.setdefault(name, []).append(text)
        self.published.append(name)

    async def withdraw(self, name: str, text: str) -> None:
        self.texts[name].remove(text)

    def answer(self, data: bytes) -> bytes:
        question = dnslib.DNSRecord.parse(data)
        reply = question.reply()
        name = str(question.q.qname).rstrip(".").lower()
        if question.q.qtype == dnslib.QTYPE.A:
            reply.add_answer(dnslib.RR(name, rdata=dnslib.A("127.0.0.1"), ttl=1))
        if question.q.qtype == dnslib.QTYPE.TXT:
            for text in self.texts.get(name, ()):
                reply.add_answer(
                    dnslib.RR(name, dnslib.QTYPE.TXT, rdata=dnslib.TXT(text.encode()), ttl=1)
                )
        return bytes(reply.pack())


@dataclass
class Web:
    """Port 80 of the gateways: answers challenges only."""

    texts: dict[str, str] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    heard: int = 0
    broken: bool = False

    async def show(self, token: str, text: str) -> None:
        self.texts[token] = "wrong" if self.broken else text
        self.shown.append(token)

    async def hide(self, token: str) -> None:
        del self.texts[token]

    async def one(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = await read_head(stream, bytearray())
            if head is None:
                return
            self.heard += 1
            token = head[0].split(" ")[1].removeprefix("/.well-known/acme-challenge/")
            said = self.texts.get(token, "").encode()
            status = b"200 OK" if said else b"404 X"
            await stream.send_all(
                b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(said), said)
            )


@dataclass
class PebbleWorld:
    directory: str
    names: Names
    web: Web
    fetcher: Fetcher
    tmp_path: Path
    changes: int = 0

    def acme(
        self,
        *names: tuple[str, ...],
        folder: str = "a",
        challenge: Kind = "http-01",
        **more: object,
    ) -> Acme:
        def changed() -> None:
            self.changes += 1

        settings = AcmeSettings(
            directory=self.directory,
            names=names,
            folder=str(self.tmp_path / folder / "account"),
            certificates=str(self.tmp_path / folder / "certificates"),
            contact=("admin@example.org",),
            challenge=challenge,
        )
        solvers = Solvers(http=self.web, dns=self.names, propagation_s=0)
        return Acme(settings, self.fetcher, solvers, changed=changed, **more)  # type: ignore[arg-type]


async def _tls(folder: Path) -> None:
    await trio.run_process(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=pebble", "-addext"),
            *("subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "p.key")),
            *("-out", str(folder / "p.pem")),
        ],
        capture_stderr=True,
    )


async def _serve_names(names: Names, sock: trio.socket.SocketType) -> None:
    while True:
        data, peer = await sock.recvfrom(4096)
        await sock.sendto(names.answer(data), peer)


@asynccontextmanager
async def pebble(
    tmp_path: Path, *, nonces_refused_percent: int = 30, port: int = 0
) -> AsyncIterator[PebbleWorld]:
    """An authority that refuses some nonces at random, as it does by itself.

    `port`: where it looks for answers to `http-01`; 0: at a server of the test.
    """
    await _tls(tmp_path)
    names, web = Names(), Web()
    api, management = free_port(), free_port()
    udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await udp.bind(("127.0.0.1", 0))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    configuration = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{api}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(tmp_path / "p.pem"),
            "privateKey": str(tmp_path / "p.key"),
            "httpPort": port or listener.socket.getsockname()[1],
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "retryAfter": {"authz": 1, "order": 1},
        }
    }
    path = tmp_path / "pebble.json"
    path.write_text(json.dumps(configuration))
    environment = {
        **os.environ,
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_WFE_NONCEREJECT": str(nonces_refused_percent),
        "PEBBLE_AUTHZREUSE": "0",
    }
    server = udp.getsockname()
    settings = Settings(private=networks(["127.0.0.0/8"]), authorities=str(tmp_path / "p.pem"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_names, names, udp)
        nursery.start_soon(trio.serve_listeners, web.one, [listener])
        process = await trio.lowlevel.open_process(
            ["pebble", "-config", str(path), "-dnsserver", f"{server[0]}:{server[1]}"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with trio.fail_after(20):
                await _listens(api)
            async with Fetcher(settings) as fetcher:
                yield PebbleWorld(f"https://127.0.0.1:{api}/dir", names, web, fetcher, tmp_path)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()


async def _listens(port: int) -> None:
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.05)
            continue
        await stream.aclose()
        return
