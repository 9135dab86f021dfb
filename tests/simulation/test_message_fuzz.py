"""Damaged messages of every declared type: the short version of `python -m bench fuzz`."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.testing import fuzzing
from paas.testing.fuzz_values import Seeds
from paas.testing.fuzzing import Found, Fuzzer
from paas.wire import registry
from paas.wire.frame import FrameParser, LineParser

pytestmark = pytest.mark.simulation

SEED = "20260801"
BATCHES = 300
GROWTH_BYTES_MAX = 16 << 10


@pytest.fixture(scope="module")
def fuzzer() -> Fuzzer:
    return Fuzzer(SEED)


def findings(fuzzer: Fuzzer, batches: int = 20) -> set[str]:
    found = Found()
    for batch in range(batches):
        fuzzer.run(batch, found)
    return {f.target for f in found.findings}


def test_three_hundred_thousand_inputs(fuzzer: Fuzzer) -> None:
    found = Found()
    for batch in range(BATCHES):
        fuzzer.run(batch, found)
    assert found.findings == []
    assert found.inputs == BATCHES * fuzzing.BATCH
    for target in fuzzer.targets:
        assert found.accepted[target] > 100, target
        assert found.refused[target] > 100, target


def growth_bytes(fuzzer: Fuzzer) -> list[int]:
    """How much more Python objects there are after each of some rounds of 10,000 inputs.

    A table of the interpreter that is made anew counts whole in its round; a leak is in all.
    """
    found, sizes = Found(), []
    tracemalloc.start()
    try:
        for batch in range(10_000, 10_050):
            fuzzer.run(batch, found)
            if batch % 10 == 9:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return [after - before for before, after in pairwise(sizes)]


def test_memory_does_not_grow(fuzzer: Fuzzer) -> None:
    assert min(growth_bytes(fuzzer)) < GROWTH_BYTES_MAX


def test_a_leak_is_found(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    real = fuzzing.raft.decode

    def hoarding(data: bytes) -> Any:
        kept.append(data + b"")
        return real(bytes(data))

    monkeypatch.setattr(fuzzing.raft, "decode", hoarding)
    assert min(growth_bytes(fuzzer)) > GROWTH_BYTES_MAX


def test_a_batch_is_a_function_of_its_seed_and_number(fuzzer: Fuzzer) -> None:
    results = []
    for one in (fuzzer, Fuzzer(SEED)):
        found = Found()
        one.run(7, found)
        results.append(found)
    assert results[0] == results[1]
    other = Found()
    fuzzer.run(8, other)
    assert other != results[0]


def test_every_declared_message_is_tried_in_a_valid_form(fuzzer: Fuzzer) -> None:
    """Otherwise only the outermost check of a type would ever be reached."""

    def accepted(seeds: Seeds) -> bool:
        for body in seeds.packed:
            try:
                registry.decode(body, seeds.kind)
            except PlatformError:
                continue
            return True
        return False

    never = [str(seeds.kind) for seeds in fuzzer._typed if not accepted(seeds)]
    assert never == []
    assert len(fuzzer._typed) == 2 * len(registry.BY_NUMBER)


def test_a_decoder_that_lets_errors_of_its_library_out_is_found(
    fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(body: bytes, kind: Any) -> Any:
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.ValidationError:
            raise PlatformError("invalid") from None

    monkeypatch.setattr(registry, "decode", careless)
    assert findings(fuzzer) == {"messages"}


class Hoarder(LineParser):
    """A parser that does not look how long a line is before its end."""

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        return [bytes(line) for line in lines]


def test_a_parser_that_keeps_too_much_is_found(
    fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing, "LineParser", Hoarder)
    assert findings(fuzzer) == {"lines"}


def test_a_parser_that_believes_every_length_is_found(
    fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing, "FrameParser", lambda _limit: FrameParser(1 << 40))
    assert findings(fuzzer) == {"frames"}


def test_a_decoder_that_changes_what_it_reads_is_found(
    fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fuzzing.raft.decode

    def forgetful(data: bytes) -> Any:
        message = real(data)
        if isinstance(message, fuzzing.raft.PreVote):
            return fuzzing.raft.PreVote(message.round + 1, message.term, 0, 0)
        return message

    monkeypatch.setattr(fuzzing.raft, "decode", forgetful)
    assert findings(fuzzer) == {"replicas"}
