"""Volatile attributes of components, wherever they are: asked of the hubs of their nodes.

Nobody waits: every hub is sent one request, and `done` is called once when all have answered, or
could not.  An answer is taken in at the moment that it arrives, so it stands in order with what the
same hub publishes: changes that come before it are in it already, later ones are merged in by
`change`.  Components of this node are read by whoever puts the result together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from paas.base.errors import PlatformError
from paas.hub import attribute_limits as limits
from paas.hub.attribute_messages import VALUES, Values, ValuesResult
from paas.hub.routes import Links
from paas.hub.sights import packed
from paas.wire import codec
from paas.wire.registry import decode


class Gathering:
    """One round of questions; `values` and `missing` by component."""

    def __init__(self, done: Callable[[Gathering], None]) -> None:
        self.values: dict[str, dict[str, bytes]] = {}
        self.missing: dict[str, str] = {}
        self._done = done
        self._open: dict[str, None] = {}
        self._answered: dict[str, None] = {}

    def start(
        self,
        links: Links,
        places: Mapping[str, str],
        object_: str,
        names: Iterable[str] | None,
        timeout_s: float = limits.VALUES_TIMEOUT_S,
    ) -> None:
        """`places`: component to its node, those of other nodes only."""
        nodes: dict[str, list[str]] = {}
        for component, node in places.items():
            nodes.setdefault(node, []).append(component)
        wanted = None if names is None else list(names)
        self._open = dict.fromkeys(nodes)
        for node, components in nodes.items():
            peer = links.peer(node)
            if peer is None:
                self._miss(node, components, "not-available")
                continue

            def answer(
                value: bytes | PlatformError, node: str = node, asked: list[str] = components
            ) -> None:
                self._answer(node, asked, value)

            params = Values(components=components, object=object_, names=wanted)
            peer.send_request(VALUES.name, codec.pack(params), answer, timeout_s=timeout_s)
        if not nodes:
            self._done(self)

    def _answer(self, node: str, components: list[str], value: bytes | PlatformError) -> None:
        if isinstance(value, bytes):
            try:
                said = decode(value, ValuesResult).values
            except PlatformError as exc:
                value = exc
            else:
                for component, attributes in said.items():
                    kept = {n: v for n, v in packed(attributes).items() if v is not None}
                    self.values[component] = kept
                self._answered[node] = None
                self._close(node)
                return
        self._miss(node, components, "not-available" if value.code == "timeout" else value.code)

    def _miss(self, node: str, components: list[str], code: str) -> None:
        for component in components:
            self.missing[component] = "not-available" if code == "unknown-outcome" else code
        self._close(node)

    def _close(self, node: str) -> None:
        del self._open[node]
        if not self._open:
            self._done(self)

    def change(self, node: str, component: str, changed: Mapping[str, bytes | None]) -> None:
        """A hub says what has changed; it counts if its answer is here already."""
        if node not in self._answered:
            return
        kept = self.values.setdefault(component, {})
        for name, value in changed.items():
            if value is None:
                kept.pop(name, None)
            else:
                kept[name] = value
