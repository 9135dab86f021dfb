"""The kernel's random numbers."""

from __future__ import annotations

import os


class SystemEntropy:
    """`base.ports.Entropy` by getrandom(2)."""

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def fraction(self) -> float:
        return int.from_bytes(os.urandom(7), "big") / (1 << 56)
