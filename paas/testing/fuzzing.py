"""Millions of damaged messages against every decoder: what comes out is named, bounded and soon.

    seeds     valid values of every registered message, command of the log, message between
              replicas and greeting, made from their declarations (fuzz_values.py)
    damage    in the structure, in the bytes, in both; one in eight is left as it was
    targets   what meets bytes of others first: frame and line parsers, connections in their three
              forms, the typed decoders of all messages, commands, replicas' messages, greetings,
              the untyped decoders, traceparents and selectors

What must hold: nothing comes out but RemoteError and PlatformError; what was accepted says the same
when it is encoded and decoded again; a parser keeps no more than one message; a connection counts
no more than its limit.  Inputs are made in batches: a batch is a function of its seed and number,
so that a finding can be had again (`Finding`).
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import msgspec

import paas
from paas.base.errors import LocalError, PlatformError, RemoteError
from paas.hub import selection
from paas.raft import command
from paas.raft import messages as raft
from paas.rpc import mesh_hello
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.telemetry import traceparent
from paas.testing.fuzz_values import (
    BYTES_MAX,
    Seeds,
    damaged,
    in_json,
    scrambled,
)
from paas.wire import codec, registry
from paas.wire.frame import FrameParser, LineParser, frame, looks_like_json

BATCH = 1_000
FRAME_MAX = 2_048
OUTSTANDING_MAX = 50

Attempt = Callable[[random.Random], bool]
"""Makes one input and tries it: was it accepted?  Raises only what must not be raised."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What must not have been, and how to have it again."""

    seed: str
    batch: int
    number: int
    target: str
    what: str


@dataclass(slots=True)
class Found:
    """What some batches have shown."""

    inputs: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, target: str, accepted: bool) -> None:
        self.inputs += 1
        counts = self.accepted if accepted else self.refused
        counts[target] = counts.get(target, 0) + 1


def import_all() -> None:
    """Every module that declares messages or commands."""
    for module in pkgutil.walk_packages(paas.__path__, "paas."):
        name = module.name.rpartition(".")[2]
        if name.endswith(("messages", "methods", "state", "commands", "attributes")):
            importlib.import_module(module.name)


class Fuzzer:
    """All targets; `run` is a pure function of seed and batch."""

    def __init__(self, seed: str) -> None:
        import_all()
        chance = random.Random(f"{seed}:seeds")
        self.seed = seed
        self.methods = [registry.BY_NUMBER[number] for number in sorted(registry.BY_NUMBER)]
        self._params = [Seeds(m.params, chance) for m in self.methods]
        self._results = [Seeds(m.result, chance) for m in self.methods]
        self._typed = self._params + self._results
        self._commands = [
            (number, Seeds(kind, chance)) for number, kind in sorted(command.REGISTRY.items())
        ]
        self._replicas = [Seeds(kind, chance) for kind in get_args(raft.Message)]
        self._greetings = [
            (Seeds(mesh_hello.Hello, chance), mesh_hello.decode_hello),
            (Seeds(mesh_hello.Welcome, chance), mesh_hello.decode_welcome),
        ]
        self._parsers: dict[bool, FrameParser | LineParser] = {}
        self._connections: dict[Form, Connection] = {}
        self.targets: dict[str, tuple[int, Attempt]] = {
            "messages": (6, self._message),
            **{
                f"{form.value} connection": (3, partial(self._connection, form=form))
                for form in Form
            },
            "frames": (1, partial(self._parser, lines=False)),
            "lines": (1, partial(self._parser, lines=True)),
            "commands": (3, self._command),
            "replicas": (2, self._replica),
            "greetings": (1, self._greet),
            "values": (1, self._untyped),
            "words": (1, self._word),
        }
        self._order = [n for n, (weight, _) in self.targets.items() for _ in range(weight)]

    def run(self, batch: int, found: Found, count: int = BATCH) -> None:
        """One batch of inputs, with parsers and connections of its own."""
        chance = random.Random(f"{self.seed}:{batch}")
        self._parsers.clear()
        self._connections.clear()
        for number in range(count):
            target = chance.choice(self._order)
            try:
                found.add(target, self.targets[target][1](chance))
            except Exception as exc:
                what = f"{type(exc).__name__}: {exc}"[:500]
                found.findings.append(Finding(self.seed, batch, number, target, what))
                found.inputs += 1

    # -- making inputs ---------------------------------------------------------------------------

    def _body(self, chance: random.Random, seeds: Seeds) -> bytes:
        """A message body in msgpack, damaged in one of four ways."""
        way = chance.randrange(8)
        if way == 0:
            return chance.choice(seeds.packed)
        data = chance.choice(seeds.packed)
        if way < 5:
            data = _packed(damaged(seeds.fresh(chance), chance))
        if way >= 4:
            data = scrambled(data, chance.choice(self._any(chance).packed), chance)
        return data

    def _any(self, chance: random.Random) -> Seeds:
        return chance.choice(self._typed)

    def _envelope(self, chance: random.Random, form: Form) -> bytes:
        """One message as it stands in a connection of this form, damaged or not, in its frame."""
        number = chance.randrange(len(self.methods))
        identity = chance.choice((1, 2, 3, 4, 5, 77, None))
        if form is Form.COMPACT:
            value: Any = self._compact(chance, number, identity)
        else:
            value = self._members(chance, number, identity)
            if chance.random() < 0.05:
                value = [value, self._members(chance, number, 6), 5]
        way = chance.randrange(8)
        if 0 < way < 5:
            value = damaged(value, chance)
        body = codec.to_json(in_json(value)) if form is Form.JSON else _packed(value)
        if way >= 4:
            body = scrambled(body, chance.choice(self._any(chance).packed), chance)
        if len(body) > BYTES_MAX:
            body = body[:BYTES_MAX]
        framed = body + b"\n" if form is Form.JSON else frame(body)
        if chance.random() < 0.01:
            framed = scrambled(framed, framed, chance)
        return framed

    def _compact(self, chance: random.Random, number: int, identity: int | None) -> list[Any]:
        kind = chance.randrange(4)
        if kind == 2:
            return [1, identity, self._results[number].fresh(chance)]
        if kind == 3:
            return [2, identity, PlatformError("conflict", "no", a=[1]).to_rpc()]
        method = self.methods[number]
        name: int | str = method.number if chance.random() < 0.8 else method.name
        return [0, identity, name, self._params[number].fresh(chance)]

    def _members(self, chance: random.Random, number: int, identity: int | None) -> dict[str, Any]:
        kind = chance.randrange(4)
        value: dict[str, Any] = {"jsonrpc": "2.0"}
        if identity is not None:
            value["id"] = identity if chance.random() < 0.9 else f"i{identity}"
        if kind == 2:
            value["result"] = self._results[number].fresh(chance)
        elif kind == 3:
            value["error"] = PlatformError("conflict", "no", a=[1]).to_rpc()
        else:
            value["method"] = self.methods[number].name
            params = self._params[number].fresh(chance)
            if isinstance(params, dict) and chance.random() < 0.1:
                params = list(params.values())
            value["params"] = params
        return value

    # -- targets ---------------------------------------------------------------------------------

    def _message(self, chance: random.Random) -> bool:
        seeds = self._any(chance)
        data = self._body(chance, seeds)
        try:
            value = registry.decode(data, seeds.kind)
        except (PlatformError, RemoteError):
            return False
        if chance.random() < 0.2:
            said = codec.pack(value)
            _same(codec.pack(registry.decode(said, seeds.kind)), said)
        return True

    def _command(self, chance: random.Random) -> bool:
        number, seeds = chance.choice(self._commands)
        stamp = [chance.choice((0, 1_700_000_000_000)), bytes(16), "n1", chance.randrange(9)]
        whole: Any = [command.FORMAT, number, stamp, seeds.fresh(chance)]
        way = chance.randrange(8)
        if way == 1:
            whole = damaged(whole, chance)
        elif way > 1:
            whole[3] = damaged(whole[3], chance)
        data = _packed(whole)
        if way > 4:
            data = scrambled(data, chance.choice(self._any(chance).packed), chance)
        try:
            read, cmd = command.decode(data)
        except PlatformError:
            return False
        if chance.random() < 0.2:
            said = command.encode(cmd, read)
            read, cmd = command.decode(said)
            _same(command.encode(cmd, read), said)
        return True

    def _replica(self, chance: random.Random) -> bool:
        data = self._body(chance, chance.choice(self._replicas))
        try:
            message = raft.decode(data)
        except RemoteError:
            return False
        _same(raft.encode(raft.decode(raft.encode(message))), raft.encode(message))
        return True

    def _greet(self, chance: random.Random) -> bool:
        seeds, decode = chance.choice(self._greetings)
        framed = frame(self._body(chance, seeds))
        if chance.random() < 0.1:
            framed = scrambled(framed, framed, chance)
        reader = mesh_hello.GreetingReader()
        try:
            for piece in _pieces(chance, framed):
                body = reader.feed(piece)
                if body is not None:
                    decode(body)
                    return True
        except RemoteError:
            pass
        _at_most(len(reader.rest), len(framed))
        return False

    def _untyped(self, chance: random.Random) -> bool:
        data = self._body(chance, self._any(chance))
        try:
            if chance.random() < 0.5:
                codec.check_nesting(codec.unpack(data))
            else:
                text = codec.to_json(in_json(damaged(self._any(chance).fresh(chance), chance)))
                codec.check_nesting(codec.from_json(scrambled(text, data, chance)))
        except RemoteError:
            return False
        return True

    def _word(self, chance: random.Random) -> bool:
        """Text with a syntax of its own."""
        if chance.random() < 0.5:
            text = f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-01".encode()
            said = scrambled(text, text, chance) if chance.random() < 0.9 else text
            return traceparent.parse(said.decode("utf-8", "replace")) is not None
        text = chance.choice((b"hash:key", b'attribute:zone="east"', b"least-loaded", b"any"))
        said = scrambled(text, text, chance) if chance.random() < 0.9 else text
        try:
            selection.parse(said.decode("utf-8", "replace"))
        except PlatformError:
            return False
        return True

    def _parser(self, chance: random.Random, *, lines: bool) -> bool:
        kind: type[FrameParser | LineParser] = LineParser if lines else FrameParser
        parser = self._parsers.get(lines) or kind(400)
        self._parsers[lines] = parser
        body = self._body(chance, self._any(chance))
        framed = body + b"\n" if lines else frame(body)
        if chance.random() < 0.3:
            framed = scrambled(framed, framed, chance)
        try:
            for piece in _pieces(chance, framed):
                parser.feed(piece)
                _at_most(parser.pending_bytes, 404)
        except RemoteError:
            del self._parsers[lines]
            return False
        return True

    def _connection(self, chance: random.Random, form: Form) -> bool:
        """As a shell does: answer every request, one way or another, or let it wait."""
        data = self._envelope(chance, form)
        server = self._connections.get(form) or self._connect(form, data)
        try:
            for piece in _pieces(chance, data) if chance.random() < 0.1 else (data,):
                for number, request in enumerate(server.receive(piece)):
                    if number % 3 == 0:
                        server.reply(request, request.params)
                    elif number % 3 == 1:
                        server.fail(request, PlatformError("failed", request.method))
                server.take_outbox()
        except (RemoteError, PlatformError):
            del self._connections[form]
            return False
        _at_most(server.outstanding, OUTSTANDING_MAX + 1)
        return True

    def _connect(self, form: Form, first: bytes) -> Connection:
        # Where the first byte tells the form, it is left to it.
        told = form is not Form.COMPACT and looks_like_json(first) is (form is Form.JSON)
        made = Connection(
            None if told else form, frame_bytes_max=FRAME_MAX, outstanding_max=OUTSTANDING_MAX
        )
        for _ in range(0 if told else 3):
            made.request("t.any", b"\x80", lambda _answer: None, 1.0)
        self._connections[form] = made
        return made


def _packed(value: Any) -> bytes:
    try:
        return codec.pack(value)
    except (OverflowError, RecursionError, msgspec.MsgspecError):  # what no sender could say
        return codec.pack(str(value)[:100])


def _pieces(chance: random.Random, data: bytes) -> Iterator[bytes]:
    while data:
        size = chance.choice((1, 3, 20, 200, len(data)))
        yield data[:size]
        data = data[size:]


def _same(left: bytes, right: bytes) -> None:
    if left != right:
        raise LocalError(f"says something else the second time: {left[:80]!r}, {right[:80]!r}")


def _at_most(value: int, limit: int) -> None:
    if value > limit:
        raise LocalError(f"{value} is more than {limit}")
