"""What is held in memory for all browsers together: one number, and whose end is a refusal.

Bodies that are read whole (to be sent again, or to be the input of an operation) are counted while
they are held.  Everything else passes through and is held by nobody.
"""

from __future__ import annotations

from paas.gateway.http.problem import Problem


class Budget:
    """Bytes that are held."""

    def __init__(self, bytes_max: int) -> None:
        self._max = bytes_max
        self.held = 0

    def take(self, count: int) -> None:
        """Raises Problem (503) when there is no room."""
        if self.held + count > self._max:
            raise Problem(503, "too many bodies are under way", [("retry-after", "1")])
        self.held += count

    def give_back(self, count: int) -> None:
        self.held -= count
