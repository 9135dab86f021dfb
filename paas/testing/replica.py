"""One replica of a replicated log as a process, for tests and benchmarks: real disk, mesh, TLS.

    python -m paas.testing.replica --node a --peers a=127.0.0.1:7001,b=… --directory D --socket S

D holds `identity.pem`, `key.pem`, `authority.pem` (see replicas.py), and gets the journal, in
`log`.  The socket answers the methods below.  A damaged log is put aside and the replica comes back
by itself, as a hub does; the keeper here is as simple as can be: who returned observes, who has
caught up votes.

SIGTERM ends it in order.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import trio

from paas.assembly.mesh_network import TcpMeshNetwork
from paas.base.errors import PlatformError
from paas.identity.tls import Identity
from paas.identity.verify import trust
from paas.raft.command import command
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Context as LogContext
from paas.raft.machine import Machine
from paas.raft.recovery import open_or_return
from paas.raft.settings import RaftSettings
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.rpc.client import refuse_requests
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.mesh import Mesh
from paas.rpc.peer import Sweeper
from paas.rpc.server import listen_unix, serve
from paas.rpc.transport import SecureTransport
from paas.wire.registry import Message, Nothing, Params, method

CLUSTER = "bench"
CAUGHT_UP_ENTRIES = 20
KEEPER_PERIOD_S = 0.1


# -- the state machine -----------------------------------------------------------------------------


@command(9_911)
class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Keep a value under a key."""

    key: str
    value: str


@command(9_912)
class CountOn(msgspec.Struct, frozen=True, kw_only=True):
    """The next number of a client, which counts from 1."""

    client: str
    number: int
    filler: str = ""


class Words:
    """The section "words"."""

    name = "words"

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.count = 0
        self.commands = {Note: self._note}

    def _note(self, cmd: Note, _ctx: LogContext) -> int:
        self.words[cmd.key] = cmd.value
        self.count += 1
        return self.count

    def react(self, event: Any, ctx: LogContext, /) -> None:
        """There are no events."""

    def snapshot(self) -> Any:
        return {"words": self.words, "count": self.count}

    def restore(self, plain: Any, /) -> None:
        self.words, self.count = dict(plain["words"]), plain["count"]


class Tally:
    """The section "tally": which numbers came, in which order, and what was wrong with them.

    A client counts on when it has been told, so a number that is left out was lost after it was
    acknowledged, and one that comes again was applied twice.
    """

    name = "tally"

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.repeated = self.left_out = 0
        self.chain = ""
        """A digest over everything that was applied, in its order."""
        self.commands = {CountOn: self._count}

    def _count(self, cmd: CountOn, _ctx: LogContext) -> None:
        last = self.last.get(cmd.client, 0)
        self.repeated += cmd.number <= last
        self.left_out += max(0, cmd.number - last - 1)
        self.last[cmd.client] = max(last, cmd.number)
        text = f"{self.chain} {cmd.client} {cmd.number}"
        self.chain = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def react(self, event: Any, ctx: LogContext, /) -> None:
        """There are no events."""

    def snapshot(self) -> Any:
        return [self.last, self.repeated, self.left_out, self.chain]

    def restore(self, plain: Any, /) -> None:
        last, self.repeated, self.left_out, self.chain = plain
        self.last = dict(last)


# -- methods ---------------------------------------------------------------------------------------


class Put(Params, frozen=True, kw_only=True):
    """Commit a value."""

    key: str
    value: str
    request: int = 0
    client: str = ""
    """Whose request; empty: the key's."""


class Get(Params, frozen=True, kw_only=True):
    """Read a value, as current as the answer."""

    key: str


class GetResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The value; empty: none."""

    value: str


class Count(Params, frozen=True, kw_only=True):
    """Commit the next number of a client."""

    client: str
    number: int
    filler: str = ""


class Look(Params, frozen=True, kw_only=True):
    """Say what was counted, after everything acknowledged before."""


class LookResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What this replica has applied."""

    last: dict[str, int]
    repeated: int
    left_out: int
    chain: str
    applied: int


class Status(Params, frozen=True, kw_only=True):
    """Say how the log is."""


class StatusResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How the log is."""

    status: dict[str, Any]


class Transfer(Params, frozen=True, kw_only=True):
    """Hand leadership to another."""


class Compact(Params, frozen=True, kw_only=True):
    """Write a snapshot now."""


PUT = method(9_910, "bench.put", Put, Nothing, public=False)
STATUS = method(9_911, "bench.status", Status, StatusResult, public=False)
TRANSFER = method(9_912, "bench.transfer", Transfer, Nothing, public=False)
GET = method(9_913, "bench.get", Get, GetResult, public=False)
COUNT = method(9_914, "bench.count", Count, Nothing, public=False)
LOOK = method(9_915, "bench.look", Look, LookResult, public=False)
COMPACT = method(9_916, "bench.compact", Compact, Nothing, public=False)


class Handlers:
    """What the methods do."""

    def __init__(self, log: ReplicatedLog, words: Words, tally: Tally) -> None:
        self.log, self.words, self.tally = log, words, tally

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(PUT, self.put)
        dispatcher.plain(STATUS, self.status)
        dispatcher.task(TRANSFER, self.transfer)
        dispatcher.task(GET, self.get)
        dispatcher.task(COUNT, self.count)
        dispatcher.task(LOOK, self.look)
        dispatcher.task(COMPACT, self.compact)

    async def put(self, params: Put, context: Context) -> Nothing:
        identity = (params.client or params.key, params.request) if params.request else None
        note = Note(key=params.key, value=params.value)
        await self.log.propose(note, timeout_s=context.timeout_s, request_id=identity)
        return Nothing()

    async def get(self, params: Get, context: Context) -> GetResult:
        await self.log.read_index(timeout_s=context.timeout_s)
        return GetResult(value=self.words.words.get(params.key, ""))

    async def count(self, params: Count, context: Context) -> Nothing:
        await self.log.propose(
            CountOn(client=params.client, number=params.number, filler=params.filler),
            timeout_s=context.timeout_s,
            request_id=(params.client, params.number),
        )
        return Nothing()

    async def look(self, _params: Look, context: Context) -> LookResult:
        await self.log.barrier(timeout_s=context.timeout_s)
        tally = self.tally
        return LookResult(
            last=tally.last,
            repeated=tally.repeated,
            left_out=tally.left_out,
            chain=tally.chain,
            applied=self.log.status()["applied"],
        )

    def status(self, _params: Status, _context: Context) -> StatusResult:
        return StatusResult(status=self.log.status())

    async def transfer(self, _params: Transfer, context: Context) -> Nothing:
        await self.log.transfer_leadership(timeout_s=context.timeout_s)
        return Nothing()

    async def compact(self, _params: Compact, _context: Context) -> Nothing:
        await self.log.snapshot()
        return Nothing()


# -- the process -----------------------------------------------------------------------------------


async def keep_members(log: ReplicatedLog, wanted: list[str]) -> None:
    """Who returned observes; who observes and has caught up votes."""
    while True:
        await trio.sleep(KEEPER_PERIOD_S)
        now, last = log.configuration, log.status()["last_index"]
        for name, follower in log.followers().items():
            voters, observers = set(now.voters), set(now.observers)
            behind = last - follower.match_index
            if follower.returned and follower.voter:
                voters, observers = voters - {name}, observers | {name}
            elif not follower.voter and not follower.returned and behind < CAUGHT_UP_ENTRIES:
                voters, observers = voters | {name}, observers - {name}
            if voters != set(now.voters) and name in wanted:
                with contextlib.suppress(PlatformError):
                    await log.change_configuration(voters, observers, timeout_s=2.0)
                break


def _mesh(given: argparse.Namespace, peers: dict[str, str], sweeper: Sweeper) -> Mesh:
    directory, clock = Path(given.directory), SystemClock()
    pem = {n: (directory / f"{n}.pem").read_bytes() for n in ("identity", "key", "authority")}
    identity = Identity(pem["identity"], pem["key"], pem["authority"])
    network = TcpMeshNetwork(
        SecureTransport(identity, trust(CLUSTER, [pem["authority"]]), clock),
        listen=peers[given.node],
        clock=clock,
        on_trouble=lambda _who, _text: None,
    )
    mesh = Mesh(
        node=given.node,
        network=network,
        sweeper=sweeper,
        entropy=SystemEntropy(),
        clock=clock,
        on_request=refuse_requests,
        on_trouble=lambda _who, _text: None,
        cluster=CLUSTER,
    )
    mesh.set_peers(peers)
    return mesh


def _settings(given: argparse.Namespace) -> RaftSettings:
    if not given.compaction:
        return RaftSettings()
    return RaftSettings(compaction_entries=given.compaction, compaction_bytes=1 << 40)


async def main(given: argparse.Namespace) -> None:
    peers = dict(pair.split("=", 1) for pair in given.peers.split(","))
    words, tally = Words(), Tally()
    begun = SystemFiles(given.directory)
    async with trio.open_nursery() as nursery:
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        mesh = _mesh(given, peers, sweeper)
        await nursery.start(mesh.run)
        log = open_or_return(
            others=len(peers) > 1 and begun.exists("begun"),
            on_damage=lambda exc: sys.stderr.writelines([f"damaged: {exc}\n"]),
            files=SystemFiles(f"{given.directory}/log"),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            machine=Machine([words, tally]),
            node=given.node,
            voters=sorted(peers),
            transport=mesh.raft(),
            settings=_settings(given),
        )
        nursery.start_soon(_end_on_signal, log, nursery)
        await nursery.start(log.run)
        begun.open("begun", create=True).close()
        nursery.start_soon(keep_members, log, sorted(peers))
        dispatcher = Dispatcher(nursery, SystemClock(), on_bug=_bug)
        Handlers(log, words, tally).register(dispatcher)
        await serve(listen_unix(given.socket), dispatcher, sweeper, connections_max=1_000)


async def _end_on_signal(log: ReplicatedLog, nursery: trio.Nursery) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            await log.close()
            nursery.cancel_scope.cancel()


def _bug(_method: str, exc: Exception) -> None:
    raise exc


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("node", "peers", "directory", "socket"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--compaction", type=int, default=0)
    trio.run(main, parser.parse_args())
