"""Is a history linearizable?  Can what clients saw be explained by one order of the operations?

A *history* is the operations of many clients, each with the time when it was called and when it
returned.  It is linearizable when every operation can be given one moment between its call and its
return so that, executed one after the other at these moments, all results are right (Herlihy and
Wing).  An operation whose outcome never came may have had its moment at any time after its call, or
never.

    clients ── begin / finish / withdraw ──> History ── check(models) ──> Verdict

The search is that of Wing and Gong with Lowe's memory of visited configurations: walk over calls
and returns in time order, let any operation that is called take its moment if the model agrees,
and go back when a return is met whose operation had none.  Two things keep it small:

  - a history is linearizable exactly if its part for every single key is (Herlihy and Wing; Horn
    and Kroening call it P-compositionality), so each key is searched alone;
  - the set of operations that are done is kept as the length of the finished beginning and the
    bits behind it; operations of unknown outcome are kept apart and tried last, since most of
    them explain nothing.

A search that does not end within its budget gives `UNKNOWN`, which is a failure like any other:
`Verdict.ok` is true for a proven history only.

Sources: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for
Linearizability" (2017); Horn and Kroening, "Faster Linearizability Checking via
P-compositionality" (2015).
"""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paas.sim.models import Model

BUDGET_S_DEFAULT = 60.0
_LOOK_AT_CLOCK_EVERY = 4_096


@dataclass(slots=True)
class Operation:
    """What one client did with one object.  `return_s` None: its outcome never came."""

    client: str
    kind: str
    key: str
    argument: Any
    call_s: float
    return_s: float | None = None
    result: Any = None


class Answer(enum.StrEnum):
    """What a search found."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for all keys together; for a failure the key, and the operations around it."""

    answer: Answer
    key: str = ""
    longest: Sequence[Operation] = ()
    """The operations after the longest explanation that was found: the trouble begins here."""

    @property
    def ok(self) -> bool:
        return self.answer is Answer.LINEARIZABLE


class History:
    """Collects operations while clients run; `check` judges them."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def begin(self, client: str, kind: str, key: str, argument: Any, *, now_s: float) -> Operation:
        operation = Operation(client, kind, key, argument, now_s)
        self.operations.append(operation)
        return operation

    @staticmethod
    def finish(operation: Operation, result: Any, *, now_s: float) -> None:
        operation.result, operation.return_s = result, now_s

    def withdraw(self, operation: Operation) -> None:
        """It certainly had no effect, for example because it was refused."""
        self.operations = [known for known in self.operations if known is not operation]

    def check(
        self, models: Mapping[str, Model] | Model, *, budget_s: float = BUDGET_S_DEFAULT
    ) -> Verdict:
        """`models`: one for all keys, or by the part of the key before its first `/`."""
        return check(self.operations, models, budget_s=budget_s)


def check(
    operations: Sequence[Operation],
    models: Mapping[str, Model] | Model,
    *,
    budget_s: float = BUDGET_S_DEFAULT,
) -> Verdict:
    """Judge a history, key by key.  `budget_s` is for each key."""
    parts: dict[str, list[Operation]] = {}
    for operation in operations:
        parts.setdefault(operation.key, []).append(operation)
    for key in sorted(parts):
        model = models[key.split("/")[0]] if isinstance(models, Mapping) else models
        search = _Search(parts[key], model)
        answer = search.run(budget_s)
        if answer is not Answer.LINEARIZABLE:
            return Verdict(answer, key, search.trouble())
    return Verdict(Answer.LINEARIZABLE)


class _Search:
    """One key.  Calls and returns of the known operations form a doubly linked list of places.

    Known operation number n (in the order of calls) has its call at place `_call[n]` and its return
    at `_return[n]`; place 0 is the head.  Lifting an operation takes both out of the list, going
    back puts them in again in the opposite order.
    """

    def __init__(self, operations: Sequence[Operation], model: Model) -> None:
        ordered = sorted(operations, key=lambda o: o.call_s)
        self._model = model
        self._known = [o for o in ordered if o.return_s is not None]
        # A lost read changes nothing and told nothing.
        self._unknown = [o for o in ordered if o.return_s is None and o.kind != "read"]
        self._best = 0
        self._link()

    def _link(self) -> None:
        events: list[tuple[float, int, int]] = []
        for number, operation in enumerate(self._known):
            assert operation.return_s is not None
            events.append((operation.call_s, 0, number))
            events.append((operation.return_s, 2, number))
        events += [(operation.call_s, 1, n) for n, operation in enumerate(self._unknown)]
        events.sort()
        known = len(self._known)
        self._call, self._return = [0] * known, [0] * known
        self._born = [0] * len(self._unknown)  # the place of the last event before its call
        self._who = [-1]  # place -> operation; returns are stored as -2 - number
        for _, what, number in events:
            if what == 1:
                self._born[number] = len(self._who) - 1
                continue
            (self._call if what == 0 else self._return)[number] = len(self._who)
            self._who.append(number if what == 0 else -2 - number)
        places = len(self._who)
        self._next = [*range(1, places), 0]
        self._previous = [places - 1, *range(places - 1)]

    def run(self, budget_s: float) -> Answer:
        state = self._model.initial()
        first, bits, lost = 0, 0, 0  # known: a finished beginning and bits behind; unknown: bits
        total, turns = len(self._known), 0
        stack: list[
            tuple[int, Any, int, int, int]
        ] = []  # what was lifted, and all as it was before
        seen = {(first, bits, lost, state)}
        until_s = time.perf_counter() + budget_s
        place, spare = self._next[0], -1  # spare >= 0: trying unknown operations from there on
        while first < total:
            turns += 1
            if turns % _LOOK_AT_CLOCK_EVERY == 0 and time.perf_counter() > until_s:
                return Answer.UNKNOWN
            lifted, place, spare, after = self._candidate(place, spare, lost, state)
            if lifted is None:
                if not stack:
                    return Answer.VIOLATED
                lifted, state, first, bits, lost = stack.pop()
                place, spare = self._put_back(lifted)
                continue
            configuration = _done(first, bits, lost, lifted)
            if (*configuration, after) in seen:
                continue
            seen.add((*configuration, after))
            stack.append((lifted, state, first, bits, lost))
            state, (first, bits, lost) = after, configuration
            if lifted >= 0:
                self._lift(lifted)
                self._best = max(self._best, first)
            place, spare = self._next[0], -1
        return Answer.LINEARIZABLE

    def _candidate(
        self, place: int, spare: int, lost: int, state: Any
    ) -> tuple[int | None, int, int, Any]:
        """The next operation that may take its moment, where to go on, and the state after it.

        Known ones up to the first return; then unknown ones (as -1 - number) called before it.
        """
        step, who = self._model.step, self._who
        if spare < 0:
            while who[place] >= 0:
                operation = self._known[who[place]]
                right, after = step(
                    state, operation.kind, operation.argument, operation.result, True
                )
                if right:
                    return who[place], self._next[place], -1, after
                place = self._next[place]
            spare = 0
        for number in range(spare, len(self._unknown)):
            if self._born[number] >= place:
                break  # called after the first return
            operation = self._unknown[number]
            if lost >> number & 1:
                continue
            _, after = step(state, operation.kind, operation.argument, None, False)
            if after != state:
                return -1 - number, place, number + 1, after
        return None, place, spare, state

    def _lift(self, number: int) -> None:
        following, previous = self._next, self._previous
        for place in (self._call[number], self._return[number]):
            following[previous[place]] = following[place]
            previous[following[place]] = previous[place]

    def _put_back(self, lifted: int) -> tuple[int, int]:
        """Undo a lift; where to go on behind it."""
        following, previous = self._next, self._previous
        if lifted >= 0:
            for place in (self._return[lifted], self._call[lifted]):
                following[previous[place]] = place
                previous[following[place]] = place
            return following[self._call[lifted]], -1
        place = following[0]
        while self._who[place] >= 0:
            place = following[place]
        return place, -lifted

    def trouble(self) -> Sequence[Operation]:
        return self._known[self._best : self._best + 8]


def _done(first: int, bits: int, lost: int, lifted: int) -> tuple[int, int, int]:
    """The configuration after an operation had its moment."""
    if lifted < 0:
        return first, bits, lost | 1 << (-1 - lifted)
    bits |= 1 << (lifted - first)
    while bits & 1:
        bits >>= 1
        first += 1
    return first, bits, lost
