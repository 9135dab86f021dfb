"""Random numbers from a seed, the same in every run."""

from __future__ import annotations

import random


class SimEntropy:
    """`base.ports.Entropy` from a seed; `choose` for the simulation's own decisions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self.random.randbytes(count)

    def fraction(self) -> float:
        return self.random.random()

    def choose(self, below: int) -> int:
        return self.random.randrange(below)
