"""Results of recent commands by identity, so that a repetition is answered and not applied again.

Kept inside the state machine and its snapshot: every replica remembers the same results, whoever
is asked.  For each proposer the results of the last `DEDUP_WINDOW` sequence numbers (at times
twice as many) are kept; a number below can no longer be told from a new one and is refused as
`unknown-outcome`.  In all `DEDUP_RESULTS_MAX` results are kept; beyond, the proposer that was
silent longest (in log order, not in time) is forgotten whole.

Invariants: deterministic (log order only); results are immutable bytes; a proposer's floor never
falls while the proposer is remembered.

Keeper K8 of docs/internals/raft.md; client identity and sequence number as in the Raft thesis §6.3.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from paas.base.errors import PlatformError
from paas.raft.limits import DEDUP_RESULTS_MAX, DEDUP_WINDOW


class _Proposer:
    __slots__ = ("floor", "results")

    def __init__(self, floor: int = -1) -> None:
        self.floor = floor  # the largest sequence number that is forgotten
        self.results: dict[int, bytes] = {}


class Results:
    """The table.  `find` before applying, `remember` after."""

    def __init__(self, *, window: int = DEDUP_WINDOW, results_max: int = DEDUP_RESULTS_MAX) -> None:
        self._window = window
        self._results_max = results_max
        self._proposers: OrderedDict[str, _Proposer] = OrderedDict()  # silent longest first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, proposer: str, sequence: int) -> bytes | None:
        """The first result of this identity; None when it is new.  Raises `unknown-outcome`."""
        known = self._proposers.get(proposer)
        if known is None:
            return None
        if sequence <= known.floor:
            raise PlatformError(
                "unknown-outcome",
                f"request {sequence} of {proposer} is too old to say whether it was done",
                hint="look at the state, then ask again with a new request id",
            )
        return known.results.get(sequence)

    def remember(self, proposer: str, sequence: int, result: bytes) -> None:
        known = self._proposers.get(proposer)
        if known is None:
            known = self._proposers[proposer] = _Proposer()
        self._proposers.move_to_end(proposer)
        self._count += sequence not in known.results
        known.results[sequence] = result
        self._slide(known)
        while self._count > self._results_max and len(self._proposers) > 1:
            _, forgotten = self._proposers.popitem(last=False)
            self._count -= len(forgotten.results)

    def _slide(self, known: _Proposer) -> None:
        """Forget what fell out of the window; seldom, at twice its size, so it costs little."""
        if len(known.results) <= 2 * self._window:
            return
        known.floor = max(known.results) - self._window
        kept = {s: r for s, r in known.results.items() if s > known.floor}
        self._count -= len(known.results) - len(kept)
        known.results = kept

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """Lists, since the order of the proposers is part of the state."""
        return [
            [name, known.floor, [[s, known.results[s]] for s in sorted(known.results)]]
            for name, known in self._proposers.items()
        ]

    def restore(self, plain: Any) -> None:
        self._proposers.clear()
        self._count = 0
        for name, floor, results in plain:
            known = self._proposers[name] = _Proposer(floor)
            known.results = {sequence: bytes(result) for sequence, result in results}
            self._count += len(known.results)
