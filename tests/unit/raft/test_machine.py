"""The state machine: total, deterministic, at most once; errors are values; events reach all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import LocalError, PlatformError
from paas.raft import limits
from paas.raft.command import Stamp, command, encode
from paas.raft.machine import Applied, Barrier, Context, Machine
from paas.sim.replicas import Note, Noted, Words


@command(9_910)
class Misbehave(msgspec.Struct, frozen=True, kw_only=True):
    """Do something that a handler should not."""

    how: str


class Echoed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    depth: int


class Bad:
    """A section with every bad habit."""

    name = "bad"

    def __init__(self) -> None:
        self.commands = {Misbehave: self._do}
        self.heard: list[object] = []

    def _do(self, cmd: Misbehave, ctx: Context) -> Any:
        ctx.emit(Echoed(depth=0))
        match cmd.how:
            case "refuse":
                raise PlatformError("conflict", "no", hint="try another", reasons=["a"])
            case "crash":
                raise ZeroDivisionError("a text that differs between machines: 0x7f12")
            case "unplain":
                return object()
            case "long":
                return "x" * (limits.RESULT_BYTES_MAX + 1)
            case "unplain error":
                raise PlatformError("conflict", "no", what=object())
        return cmd.how

    def react(self, event: object, ctx: Context) -> None:
        self.heard.append(event)
        if isinstance(event, Echoed):
            ctx.emit(Echoed(depth=event.depth + 1))
        if isinstance(event, Noted) and event.word == "poison":
            raise ValueError("a reaction that fails")

    def snapshot(self) -> Any:
        return {}

    def restore(self, plain: Any) -> None:
        return None


def stamped(cmd: msgspec.Struct, sequence: int, proposer: str = "a") -> bytes:
    return encode(cmd, Stamp(sequence, sequence.to_bytes(16), proposer, sequence))


def apply(machine: Machine, cmd: msgspec.Struct, sequence: int = 1) -> Applied:
    return machine.apply(sequence, stamped(cmd, sequence))


def test_a_command_reaches_its_section_and_its_events_everybody() -> None:
    words, bad = Words(), Bad()
    applied = apply(Machine([words, bad]), Note(word="x"))
    assert applied.result == 1
    assert words.words == ["x"]
    assert applied.events == (Noted(word="x"),)
    assert bad.heard == [Noted(word="x")]


def test_a_repetition_is_answered_and_not_applied() -> None:
    words = Words()
    machine = Machine([words])
    data = stamped(Note(word="x"), 1)
    first, second = machine.apply(1, data), machine.apply(2, data)
    assert (first.result, second.result) == (1, 1)
    assert second.repeated
    assert second.events == ()
    assert words.words == ["x"]
    assert machine.recall(("a", 1)) is not None
    assert machine.recall(("a", 2)) is None


def test_a_refusal_is_a_value_and_is_repeated_like_a_result() -> None:
    machine = Machine([Bad()])
    data = stamped(Misbehave(how="refuse"), 1)
    for applied in (machine.apply(1, data), machine.apply(2, data)):
        assert applied.error is not None
        assert (applied.error.code, applied.error.message) == ("conflict", "no")
        assert applied.error.data == {"reasons": ["a"]}
        assert applied.events == ()


@pytest.mark.parametrize("how", ["crash", "unplain", "long"])
def test_a_bug_of_a_handler_is_an_error_value_without_its_text(how: str) -> None:
    applied = apply(Machine([Bad()]), Misbehave(how=how))
    assert applied.error is not None
    assert applied.error.code == "internal"
    assert "0x7f12" not in applied.error.message


def test_error_data_that_is_not_plain_is_dropped() -> None:
    applied = apply(Machine([Bad()]), Misbehave(how="unplain error"))
    assert applied.error is not None
    assert (applied.error.code, applied.error.data) == ("conflict", {})


def test_a_reaction_that_fails_stops_nobody() -> None:
    words, bad = Words(), Bad()
    applied = apply(Machine([bad, words]), Note(word="poison"))
    assert applied.error is None
    assert words.words == ["poison"]


def test_events_that_cause_events_come_to_an_end() -> None:
    applied = apply(Machine([Bad()]), Misbehave(how="echo"))
    depths = [event.depth for event in applied.events if isinstance(event, Echoed)]
    assert depths == list(range(limits.EVENT_DEPTH_MAX + 1))


@given(st.binary(max_size=300))
def test_any_bytes_are_applied_to_a_value(data: bytes) -> None:
    applied = Machine([Words()]).apply(1, data)
    assert applied.error is not None


def test_a_command_without_a_section_is_unsupported() -> None:
    applied = apply(Machine([Words()]), Misbehave(how="x"))
    assert applied.error is not None
    assert applied.error.code == "unsupported"


def test_a_barrier_changes_nothing_and_tells_its_place() -> None:
    assert apply(Machine([]), Barrier(), 7).result == 7


def test_two_sections_may_not_share_a_name_or_a_command() -> None:
    with pytest.raises(LocalError):
        Machine([Words(), Words()])
    other = Words()
    other.name = "other"
    with pytest.raises(LocalError):
        Machine([Words(), other])


def test_a_snapshot_restores_state_and_results() -> None:
    machine = Machine([Words()])
    for sequence in range(1, 5):
        apply(machine, Note(word=f"w{sequence}"), sequence)
    words = Words()
    again = Machine([words])
    again.restore_bytes(machine.snapshot_bytes())
    assert words.words == ["w1", "w2", "w3", "w4"]
    assert again.snapshot_bytes() == machine.snapshot_bytes()
    assert again.apply(9, stamped(Note(word="w2"), 2)).repeated


def test_a_section_that_the_snapshot_lacks_starts_anew() -> None:
    words = Words()
    machine = Machine([words])
    apply(machine, Note(word="x"))
    machine.restore_bytes(Machine([]).snapshot_bytes())
    assert words.words == []


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x80", b"\x81\xa6format\x01", b"\xc1garbage"])
def test_a_snapshot_that_cannot_be_read_is_corrupt(data: bytes) -> None:
    with pytest.raises(PlatformError) as caught:
        Machine([]).restore_bytes(data)
    assert caught.value.code == "corrupt"


def test_a_snapshot_of_a_newer_node_is_not_cut_down() -> None:
    with pytest.raises(PlatformError) as caught:
        Machine([]).restore_bytes(Machine([Words()]).snapshot_bytes())
    assert caught.value.code == "unsupported"
    newer = msgspec.msgpack.encode({"format": 2, "sections": {}, "results": []})
    with pytest.raises(PlatformError) as caught:
        Machine([]).restore_bytes(newer)
    assert caught.value.code == "unsupported"


SCRIPT = """
import random, sys, hashlib
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine
from paas.sim.replicas import Note, Words
machine, r = Machine([Words()]), random.Random(3)
for index in range(400):
    who, number = r.choice("abcdef"), r.randrange(60)
    stamp = Stamp(index, r.randbytes(16), who, number)
    machine.apply(index, encode(Note(word=f"{who}{number}"), stamp))
print(hashlib.sha256(machine.snapshot_bytes()).hexdigest())
"""


def test_the_same_log_gives_the_same_bytes_in_any_process() -> None:
    seen = set()
    for seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            check=True,
            text=True,
        )
        seen.add(done.stdout)
    assert len(seen) == 1
