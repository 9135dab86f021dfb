"""The checker against all permutations, on thousands of small random histories, and its speed."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from paas.sim.history import Answer, History, Operation, check
from paas.sim.models import Claim, Counter, Group, Model, Register


def brute_force(operations: Sequence[Operation], model: Model) -> bool:
    """Is there any order?  Tries all of them, with every choice of lost operations."""
    known = [o for o in operations if o.return_s is not None]
    unknown = [o for o in operations if o.return_s is None]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *some]):
                if in_time_order(order) and explained(order, model):
                    return True
    return False


def in_time_order(order: Sequence[Operation]) -> bool:
    return not any(
        later.return_s is not None and later.return_s < earlier.call_s
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def explained(order: Sequence[Operation], model: Model) -> bool:
    state: Any = model.initial()
    for o in order:
        right, state = model.step(state, o.kind, o.argument, o.result, o.return_s is not None)
        if not right:
            return False
    return True


Deed = Callable[[random.Random], tuple[str, Any]]


def register_deed(chance: random.Random) -> tuple[str, Any]:
    kind = chance.choice(["read", "write", "cas"])
    value = chance.randrange(3)
    return kind, {"read": None, "write": value, "cas": (chance.randrange(3), value)}[kind]


def group_deed(chance: random.Random) -> tuple[str, Any]:
    return chance.choice(["join", "join", "leave"]), chance.choice("ab")


def claim_deed(chance: random.Random) -> tuple[str, Any]:
    kind = chance.choice(["claim", "claim", "release", "holder"])
    return kind, None if kind == "holder" else chance.choice("ab")


def counter_deed(chance: random.Random) -> tuple[str, Any]:
    kind = chance.choice(["add", "add", "read"])
    return kind, None if kind == "read" else (chance.choice("xyz"), chance.randrange(1, 3))


class Object:
    """A correct object: executes operations one after the other."""

    def __init__(self) -> None:
        self.value: Any = None
        self.members: dict[str, int] = {}
        self.total = self.tokens = 0
        self.answers: dict[str, int] = {}

    def do(self, kind: str, argument: Any) -> Any:
        return getattr(self, f"_{kind}")(argument)

    def _read(self, _argument: Any) -> Any:
        return self.total if self.answers or self.value is None else self.value

    def _write(self, value: Any) -> None:
        self.value = value

    def _cas(self, argument: tuple[Any, Any]) -> bool:
        hit = self.value == argument[0]
        self.value = argument[1] if hit else self.value
        return bool(hit)

    def _join(self, member: str) -> tuple[int, int, int]:
        if member not in self.members:
            self.tokens += 1
            self.members[member] = self.tokens
        return list(self.members).index(member) + 1, len(self.members), self.members[member]

    def _leave(self, member: str) -> None:
        self.members.pop(member, None)

    def _claim(self, owner: str) -> bool:
        self.value = owner if self.value is None else self.value
        return bool(self.value == owner)

    def _release(self, owner: str) -> None:
        self.value = None if self.value == owner else self.value

    def _holder(self, _argument: Any) -> Any:
        return self.value

    def _add(self, argument: tuple[str, int]) -> int:
        identity, amount = argument
        if identity not in self.answers:
            self.total += amount
            self.answers[identity] = self.total
        return self.answers[identity]


def history(
    chance: random.Random, deed: Deed, count: int, clients: int, *, lost: float, initial: Any = None
) -> list[Operation]:
    """What clients of a correct object see; some outcomes are lost, with or without an effect."""
    free, planned = [0.0] * clients, []
    for _ in range(count):
        client = min(range(clients), key=lambda c: free[c])
        call = free[client] + chance.random() * 0.1
        moment = call + chance.random()
        free[client] = moment + chance.random() * 0.5
        kind, argument = deed(chance)
        operation = Operation(str(client), kind, "k", argument, call, free[client])
        planned.append((moment, operation))
    target = Object()
    target.value = initial
    for _, operation in sorted(planned, key=lambda p: p[0]):
        if chance.random() < lost:
            operation.return_s = None
            if chance.random() < 0.5:
                continue
        operation.result = target.do(operation.kind, operation.argument)
    for _, operation in planned:
        operation.result = operation.result if operation.return_s is not None else None
    return [operation for _, operation in planned]


def spoil(chance: random.Random, operations: Sequence[Operation]) -> None:
    """Give some operations a result that may be wrong."""
    for operation in operations:
        if operation.return_s is None or chance.random() < 0.5:
            continue
        match operation.result:
            case bool():
                operation.result = chance.random() < 0.5
            case int():
                operation.result = chance.randrange(3)
            case (_, _, token):
                operation.result = (chance.randrange(1, 3), chance.randrange(1, 3), token)
            case str() | None if operation.kind == "holder":
                operation.result = chance.choice(["a", "b", None])


MODELS: dict[str, tuple[Callable[[], Model], Deed, Any]] = {
    "register": (lambda: Register(0), register_deed, 0),
    "group": (Group, group_deed, None),
    "claim": (Claim, claim_deed, None),
    "counter": (Counter, counter_deed, None),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_checker_agrees_with_trying_all_orders(name: str) -> None:
    make, deed, initial = MODELS[name]
    good = bad = 0
    for seed in range(2_000):
        chance = random.Random(seed)
        count, clients = chance.randrange(1, 6), chance.randrange(1, 4)
        operations = history(chance, deed, count, clients, lost=0.15, initial=initial)
        if seed % 2:
            spoil(chance, operations)
        expected = brute_force(operations, make())
        assert check(operations, make()).ok == expected, (seed, operations)
        good, bad = good + expected, bad + (not expected)
    assert good > 1_000
    assert bad > 200


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_a_correct_object_answers_is_linearizable(name: str) -> None:
    make, deed, initial = MODELS[name]
    for seed in range(30):
        operations = history(random.Random(seed), deed, 120, 4, lost=0.03, initial=initial)
        assert check(operations, make()).ok, seed


@pytest.mark.parametrize("clients", [5, 10])
def test_a_thousand_operations_are_judged_at_once(clients: int) -> None:
    operations = history(random.Random(7), register_deed, 1_000, clients, lost=0.0, initial=0)
    begin_s = time.process_time()
    assert check(operations, Register(0)).ok
    assert time.process_time() - begin_s < 5  # measured: 0.01 s


def test_one_wrong_read_in_a_thousand_is_found() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        operations = history(chance, register_deed, 1_000, 5, lost=0.01, initial=0)
        reads = [o for o in operations if o.kind == "read" and o.return_s is not None]
        reads[len(reads) // 2].result = 99
        verdict = check(operations, Register(0))
        assert verdict.answer is Answer.VIOLATED
        assert verdict.longest


def test_a_stale_read_is_found() -> None:
    log = History()
    for value in (1, 2):
        write = log.begin("a", "write", "k", value, now_s=float(value))
        log.finish(write, None, now_s=value + 0.5)
    read = log.begin("b", "read", "k", None, now_s=3.0)
    log.finish(read, 1, now_s=3.5)
    assert log.check(Register()).answer is Answer.VIOLATED
    log.finish(read, 2, now_s=3.5)
    assert log.check(Register()).ok


def test_a_lost_write_may_show_late_or_never() -> None:
    log = History()
    log.begin("a", "write", "k", 1, now_s=0.0)
    for number, value in enumerate([None, None, 1, 1]):
        read = log.begin("b", "read", "k", None, now_s=number + 1.0)
        log.finish(read, value, now_s=number + 1.5)
    assert log.check(Register()).ok
    again = log.begin("b", "read", "k", None, now_s=9.0)
    log.finish(again, None, now_s=9.5)
    assert not log.check(Register()).ok  # it cannot be undone


def test_what_was_withdrawn_does_not_count() -> None:
    log = History()
    write = log.begin("a", "write", "k", 1, now_s=0.0)
    log.withdraw(write)
    assert log.operations == []


def test_keys_are_judged_alone_with_their_own_model() -> None:
    log = History()
    join = log.begin("a", "join", "group/web", "x", now_s=0.0)
    log.finish(join, (1, 1, 7), now_s=1.0)
    write = log.begin("a", "write", "register/r", 5, now_s=0.0)
    log.finish(write, None, now_s=1.0)
    models: dict[str, Model] = {"group": Group(), "register": Register()}
    assert log.check(models).ok
    second = log.begin("b", "join", "group/web", "y", now_s=2.0)
    log.finish(second, (2, 2, 7), now_s=3.0)  # a token that was given already
    verdict = log.check(models)
    assert verdict.answer is Answer.VIOLATED
    assert verdict.key == "group/web"


def test_a_search_without_an_end_in_time_is_not_a_pass() -> None:
    operations = [Operation(str(n), "write", "k", n, 0.0, 100.0) for n in range(30)]
    operations += [Operation("r", "read", "k", None, 1.0, 99.0, -1)]
    verdict = check(operations, Register(), budget_s=0.05)
    assert verdict.answer is Answer.UNKNOWN
    assert not verdict.ok
