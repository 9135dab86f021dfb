"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """`base.ports.Clock` by the kernel's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class BootClock:
    """The same, but its monotonic time goes on while the machine sleeps (CLOCK_BOOTTIME)."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
