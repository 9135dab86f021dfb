"""Those who want to exhaust the gateway: floods, the slow, the many; what it costs in memory."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from paas.gateway.messages import Route
from paas.testing.edge_world import Answer, Browser, TestMember, gateway, until

SITE = Route(name="site", group="web", body_max=64 << 20)
HEAD = "GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD + "a: " + "b" * 40_000 + "\r\n\r\n", 431),
        (HEAD + "a: b\r\n" * 7_000, 431),
        (HEAD + "a: b\r\n" * 150 + "\r\n", 431),
        ("GET /" + "a" * 40_000, 431),
        ("GET /" + "a" * 10_000 + " HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        ("A" * 100_000, 431),
        (HEAD + "cookie: " + "a=b; " * 10_000, 431),
    ],
)
async def test_floods_of_headers_are_refused_early(sent: str, status: int) -> None:
    async with gateway(members=[TestMember()], limits={"refused_linger_s": 0.2}) as world:
        assert (await world.ask(sent)).status == status
        assert world.members[0].seen == []
        assert (await world.get()).status == 200


async def test_the_slow_are_cut_off_and_others_are_served_meanwhile() -> None:
    limits = {"first_s": 0.5, "head_s": 0.5, "body_s": 0.5, "idle_s": 0.5, "body_bytes_per_s": 1e6}
    async with gateway(members=[TestMember()], limits=limits) as world:
        ends: list[bytes] = []

        async def drip(sent: str, rest: str) -> None:
            browser = await world.connect()
            await browser.send(sent)
            answer: list[bytes] = []
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    answer.append(await browser.everything())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(listen)
                for character in rest * 1000:
                    await trio.sleep(0.1)
                    try:
                        await browser.send(character)
                    except trio.BrokenResourceError:
                        break
            ends.append(b"".join(answer)[:12])

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(drip, "GET / HTT", "x")
                nursery.start_soon(drip, "", "")
                head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
                nursery.start_soon(drip, head, "x")
                chunked = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
                nursery.start_soon(drip, chunked, "1\r\nx\r\n")
                nursery.start_soon(drip, f"{HEAD}\r\n", "")
                for _ in range(5):
                    assert (await world.get()).status == 200
        assert sorted(set(ends)) == [b"", b"HTTP/1.1 200", b"HTTP/1.1 408"]
        assert ends.count(b"HTTP/1.1 408") == 22


async def test_one_source_cannot_take_every_connection() -> None:
    limits = {"connections_per_source_max": 5}
    async with gateway(members=[TestMember()], limits=limits) as world:
        held = [await world.connect() for _ in range(5)]
        late = await world.connect()
        assert await late.everything() == b""
        for browser in held:
            await browser.close()
        await until(lambda: world.edge.statistics["hung_up"] == 1)
        await trio.sleep(0.05)
        assert (await world.get()).status == 200


# -- the gateway as a program of its own -----------------------------------------------------------


class Program:
    """`python -m paas.gateway`, and where it listens."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.usage = psutil.Process(process.pid)

    async def connect(self) -> Browser:
        return Browser(await trio.open_tcp_stream("127.0.0.1", self.port))

    async def ask(self, request: str) -> Answer:
        browser = await self.connect()
        await browser.send(request)
        answer = await browser.answer()
        await browser.close()
        return answer

    def memory(self) -> int:
        return int(self.usage.memory_info().rss)


@contextmanager
def run_program(file: Path, *before: str) -> Iterator[Program]:
    command = [*before, sys.executable, "-m", "paas.gateway", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            yield Program(process, told["port"])
        finally:
            process.kill()


def write(file: Path, members: dict[str, int], **route: Any) -> None:
    rows = "".join(
        f'[[member]]\ngroup = "web"\nname = "{name}"\nhost = "127.0.0.1"\nport = {port}\n'
        for name, port in members.items()
    )
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in route.items())
    file.write_text(
        '[gateway]\nlisten = ["127.0.0.1:0"]\naccess_log = "errors"\n'
        f'[[route]]\nname = "site"\ngroup = "web"\nbody_max = 1000000000\n{more}{rows}'
    )


@asynccontextmanager
async def beside(*members: TestMember) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for member in members:
            await nursery.start(member.run)
        yield
        nursery.cancel_scope.cancel()


async def test_bodies_that_are_large_or_unpack_to_more_pass_in_bounded_memory(
    tmp_path: Path,
) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    counted = 0

    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        nonlocal counted
        while data := await stream.receive_some(1 << 20):
            counted += len(data)
            if data.endswith(b"!"):
                break
        head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
        head += f"content-length: {len(bomb) * 200}\r\n\r\n"
        await stream.send_all(head.encode())
        for _ in range(200):
            await stream.send_all(bomb)

    member = TestMember(talk=talk)
    async with beside(member):
        write(tmp_path / "gateway.toml", {"m": member.port})
        with run_program(tmp_path / "gateway.toml") as program:
            before = program.memory()
            browser = await program.connect()
            size = 50_000_000
            head = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n"
            await browser.send(head)
            piece = b"x" * 500_000
            for _ in range(size // len(piece) - 1):
                await browser.send(piece)
            await browser.send(piece[:-1] + b"!")
            taken = 0
            while taken < len(bomb) * 200:
                data = await browser.receive()
                assert data
                taken += len(data)
            assert counted >= size
            assert program.memory() - before < 16 << 20


async def test_a_thousand_idle_connections_cost_little(tmp_path: Path) -> None:
    member = TestMember()
    async with beside(member):
        write(tmp_path / "gateway.toml", {"m": member.port})
        with run_program(tmp_path / "gateway.toml") as program:
            await program.ask(f"{HEAD}\r\n")
            before = program.memory()
            browsers = [await program.connect() for _ in range(1_000)]
            for browser in browsers:
                await browser.send(f"{HEAD}a: ")
            await trio.sleep(0.2)
            assert (await program.ask(f"{HEAD}\r\n")).status == 200
            assert (program.memory() - before) / len(browsers) < 24 << 10
            for browser in browsers:
                await browser.close()


async def test_without_descriptors_newcomers_are_hung_up_on_and_nobody_else(
    tmp_path: Path,
) -> None:
    member = TestMember()
    async with beside(member):
        write(tmp_path / "gateway.toml", {"m": member.port})
        with run_program(tmp_path / "gateway.toml", "prlimit", "--nofile=100:100") as program:
            first = await program.connect()
            browsers = [await program.connect() for _ in range(120)]
            for browser in browsers[40:]:
                assert await browser.receive() == b""
            await first.send(f"{HEAD}\r\n")
            assert (await first.answer()).status == 200
            for browser in browsers:
                await browser.close()
            await trio.sleep(0.1)
            assert (await program.ask(f"{HEAD}\r\n")).status == 200


MEMBER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def member_process(name: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    command = [sys.executable, "-c", MEMBER, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


async def test_a_member_that_is_killed_costs_no_request_that_is_safe_to_repeat(
    tmp_path: Path,
) -> None:
    with member_process("one") as (first, one), member_process("two") as (_, two):
        write(tmp_path / "gateway.toml", {"one": one, "two": two})
        with run_program(tmp_path / "gateway.toml") as program:
            statuses: list[tuple[int, bytes]] = []
            killed = trio.Event()

            async def load() -> None:
                browser = await program.connect()
                for number in range(40):
                    if number == 15:
                        killed.set()
                    await browser.send(f"{HEAD}\r\n")
                    answer = await browser.answer()
                    statuses.append((answer.status, answer.body))

            async def kill() -> None:
                await killed.wait()
                os.kill(first.pid, signal.SIGKILL)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill)
                for _ in range(8):
                    nursery.start_soon(load)
            assert {status for status, _ in statuses} == {200}
            assert {body for _, body in statuses} == {b"one", b"two"}


async def test_members_come_and_go_while_requests_go_on_and_the_program_ends_in_order(
    tmp_path: Path,
) -> None:
    file = tmp_path / "gateway.toml"
    members = [TestMember(name="a"), TestMember(name="b")]
    async with beside(*members):
        a, b = (member.port for member in members)
        write(file, {"a": a})
        with run_program(file) as program:
            browser = await program.connect()

            async def ask() -> str | None:
                await browser.send(f"{HEAD}\r\n")
                answer = await browser.answer()
                assert answer.status == 200
                return answer.header("x-member")

            assert await ask() == "a"
            write(file, {"b": b})
            program.process.send_signal(signal.SIGHUP)
            with trio.fail_after(5):
                while await ask() != "b":
                    pass
            file.write_text("[gateway]\nnonsense = 1\n")
            program.process.send_signal(signal.SIGHUP)
            assert await ask() == "b"
            program.process.send_signal(signal.SIGTERM)
            with trio.fail_after(5):
                assert await trio.to_thread.run_sync(program.process.wait) == 0


def test_a_file_that_is_wrong_is_refused_with_its_field(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[gateway]\nlisten = ['nowhere']\n")
    command = [sys.executable, "-m", "paas.gateway", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "gateway.listen" in done.stderr
