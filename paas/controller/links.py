"""Links: ties between two lives (platform document §4.7.3; Erlang reference manual, "Links").

A link has no direction.  When a component ends abnormally, all that are linked to it, directly or
through others, end for the same reason; each of them then follows its own restart policy.  An
ordinary end (`normal`, `destroyed`) ends nobody.  The whole closure is computed once, at the first
end: those who end because of it start no second wave, so that a cycle of links is no endless fall.
A link lasts until it is untied or one of the two has ended for good; a restart keeps it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class Links:
    """The undirected graph of links; iteration follows the order in which links were made."""

    def __init__(self) -> None:
        self._peers: dict[str, dict[str, None]] = {}

    def of(self, component: str) -> list[str]:
        return list(self._peers.get(component, ()))

    def count(self, component: str) -> int:
        return len(self._peers.get(component, ()))

    def has(self, a: str, b: str) -> bool:
        return b in self._peers.get(a, ())

    def add(self, a: str, b: str) -> None:
        self._peers.setdefault(a, {})[b] = None
        self._peers.setdefault(b, {})[a] = None

    def remove(self, a: str, b: str) -> None:
        for one, other in ((a, b), (b, a)):
            peers = self._peers.get(one, {})
            peers.pop(other, None)
            if not peers:
                self._peers.pop(one, None)

    def drop(self, component: str) -> None:
        """Untie it from everybody: it has ended for good."""
        for peer in self.of(component):
            self.remove(component, peer)

    def fallen(self, origin: str, alive: Callable[[str], bool]) -> list[str]:
        """Who ends because `origin` did: nearest first, without `origin`.

        Only through the living: a component that is ending already passes nothing on.
        """
        seen = {origin}
        order: list[str] = []
        queue = deque([origin])
        while queue:
            for peer in self.of(queue.popleft()):
                if peer not in seen:
                    seen.add(peer)
                    if alive(peer):
                        order.append(peer)
                        queue.append(peer)
        return order

    def snapshot(self) -> Any:
        return [[a, list(peers)] for a, peers in self._peers.items()]

    def restore(self, plain: Any) -> None:
        self._peers = {a: dict.fromkeys(peers) for a, peers in plain}
