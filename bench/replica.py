"""One replica of a replicated log as a process, for the benchmarks: real disk and mesh, a socket.

    python -m bench.replica --node a --peers a=127.0.0.1:7001,b=… --directory DIR --socket PATH

DIR holds `identity.pem`, `key.pem`, `authority.pem` (see commits.py), and gets the journal.  The
socket
answers `bench.put` (propose, then the result), `bench.status`, `bench.transfer`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import trio

from bench.words import Note, Words
from paas.assembly.mesh_network import TcpMeshNetwork
from paas.identity.tls import Identity
from paas.identity.verify import trust
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
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


class Put(Params, frozen=True, kw_only=True):
    """Commit a value."""

    key: str
    value: str
    request: int = 0


class Status(Params, frozen=True, kw_only=True):
    """Say how the log is."""


class StatusResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How the log is."""

    status: dict[str, Any]


class Transfer(Params, frozen=True, kw_only=True):
    """Hand leadership to another."""


PUT = method(9_910, "bench.put", Put, Nothing, public=False)
STATUS = method(9_911, "bench.status", Status, StatusResult, public=False)
TRANSFER = method(9_912, "bench.transfer", Transfer, Nothing, public=False)


class Replica:
    """The handlers."""

    def __init__(self, log: ReplicatedLog) -> None:
        self.log = log

    async def put(self, params: Put, context: Context) -> Nothing:
        identity = (params.key, params.request) if params.request else None
        note = Note(key=params.key, value=params.value)
        await self.log.propose(note, timeout_s=context.timeout_s, request_id=identity)
        return Nothing()

    def status(self, _params: Status, _context: Context) -> StatusResult:
        return StatusResult(status=self.log.status())

    async def transfer(self, _params: Transfer, context: Context) -> Nothing:
        await self.log.transfer_leadership(timeout_s=context.timeout_s)
        return Nothing()


async def main(given: argparse.Namespace) -> None:
    directory = Path(given.directory)
    peers = dict(pair.split("=", 1) for pair in given.peers.split(","))
    clock, entropy = SystemClock(), SystemEntropy()
    pem = {n: (directory / f"{n}.pem").read_bytes() for n in ("identity", "key", "authority")}
    identity = Identity(pem["identity"], pem["key"], pem["authority"])
    transport = SecureTransport(identity, trust(CLUSTER, [pem["authority"]]), clock)
    async with trio.open_nursery() as nursery:
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        network = TcpMeshNetwork(
            transport, listen=peers[given.node], clock=clock, on_trouble=lambda _who, _text: None
        )
        mesh = Mesh(
            node=given.node,
            network=network,
            sweeper=sweeper,
            entropy=entropy,
            clock=clock,
            on_request=refuse_requests,
            on_trouble=lambda _who, _text: None,
            cluster=CLUSTER,
        )
        mesh.set_peers(peers)
        await nursery.start(mesh.run)
        (directory / "log").mkdir(exist_ok=True)
        log = ReplicatedLog.open(
            files=SystemFiles(str(directory / "log")),
            clock=clock,
            entropy=entropy,
            machine=Machine([Words()]),
            node=given.node,
            voters=sorted(peers),
            transport=mesh.raft(),
        )
        await nursery.start(log.run)
        replica = Replica(log)
        dispatcher = Dispatcher(nursery, clock, on_bug=_bug)
        dispatcher.task(PUT, replica.put)
        dispatcher.plain(STATUS, replica.status)
        dispatcher.task(TRANSFER, replica.transfer)
        await serve(listen_unix(given.socket), dispatcher, sweeper, connections_max=1_000)


def _bug(_method: str, exc: Exception) -> None:
    raise exc


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("node", "peers", "directory", "socket"):
        parser.add_argument(f"--{name}", required=True)
    trio.run(main, parser.parse_args())
