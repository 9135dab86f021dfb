"""What every replica computes from the same input is computed once, for all replicas of a process.

Dealing out the ring is a pure function of the ring before and the nodes there, takes milliseconds,
and is asked again by each replica, and at each start.  Nothing else is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from paas.hub import ring_state
from paas.hub.ring import Primaries, alternatives_of, deal, moved_between

KEPT = 256


def _cached_deal() -> Callable[[Primaries, Sequence[str]], Primaries]:
    @lru_cache(maxsize=KEPT)
    def dealt(primaries: Primaries, present: tuple[str, ...]) -> Primaries:
        return deal(primaries, present)

    return lambda primaries, present: dealt(primaries, tuple(present))


@contextmanager
def shared() -> Iterator[None]:
    """Inside, replicas share what they compute alike."""
    module: Any = ring_state
    before = module.deal, module.alternatives_of, module.moved_between
    module.deal = _cached_deal()
    module.alternatives_of = lru_cache(maxsize=KEPT)(alternatives_of)
    module.moved_between = lru_cache(maxsize=KEPT)(moved_between)
    try:
        yield
    finally:
        module.deal, module.alternatives_of, module.moved_between = before
