"""Which hub has watchers for what: counted here, told to every other hub, known of them.

    topic    (kind, target, object, name): ("signals", "group:lamps", "", "on"), ("attributes", id,
             "", ""); the target as the watcher meant it, an empty name for any

Each hub tells its counts to the others: the whole list when a connection is made, then every
change.  Whoever has something to publish asks here which hubs want it and how many watches that
is.  What an old connection said is not mixed with what a new one says: a list has an epoch, and
changes of another epoch are passed over.  Pure: messages are made here, and sent elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paas.base.errors import PlatformError
from paas.hub import attribute_limits as limits
from paas.hub.attribute_messages import Interest, Topic

Key = tuple[str, str, str, str]


class Interests:
    """Own counts, and those of the other hubs."""

    def __init__(self) -> None:
        self._own: dict[Key, int] = {}
        self._epoch = 0
        self._told: dict[str, int] = {}  # node -> epoch of the list that it was told
        self._heard: dict[str, int] = {}  # node -> epoch of the list that it told
        self._far: dict[str, dict[Key, int]] = {}  # node -> its counts
        self._nodes: dict[Key, dict[str, int]] = {}

    # -- own watchers ----------------------------------------------------------------------------

    def add(self, key: Key) -> Topic:
        """One watcher more; what to tell the others.  Raises `limit-exceeded`."""
        if key not in self._own and len(self._own) >= limits.INTEREST_TOPICS_MAX:
            raise PlatformError(
                "limit-exceeded", f"{limits.INTEREST_TOPICS_MAX} things are watched already"
            )
        count = self._own[key] = self._own.get(key, 0) + 1
        return Topic(*key, count)

    def remove(self, key: Key) -> Topic:
        count = self._own.pop(key) - 1
        if count:
            self._own[key] = count
        return Topic(*key, count)

    def whole(self, node: str) -> Iterator[Interest]:
        """What a hub that has just been connected is told."""
        self._epoch += 1
        epoch = self._told[node] = self._epoch
        topics = [Topic(*key, count) for key, count in self._own.items()]
        yield Interest(epoch=epoch, topics=topics[: limits.INTEREST_BATCH], whole=True)
        for begin in range(limits.INTEREST_BATCH, len(topics), limits.INTEREST_BATCH):
            batch = topics[begin : begin + limits.INTEREST_BATCH]
            yield Interest(epoch=epoch, topics=batch)

    def change(self, node: str, topic: Topic) -> Interest | None:
        """What a connected hub is told of a change; None before it was told the whole."""
        epoch = self._told.get(node)
        return None if epoch is None else Interest(epoch=epoch, topics=[topic])

    # -- other hubs ------------------------------------------------------------------------------

    def hear(self, node: str, said: Interest) -> None:
        if said.whole:
            self._clear(node)
            self._heard[node] = said.epoch
        elif self._heard.get(node) != said.epoch:
            return
        counts = self._far.setdefault(node, {})
        for topic in said.topics:
            key = (topic.kind, topic.target, topic.object, topic.name)
            if topic.count > 0 and (key in counts or len(counts) < limits.INTEREST_TOPICS_MAX):
                counts[key] = topic.count
                self._nodes.setdefault(key, {})[node] = topic.count
            elif topic.count <= 0 and counts.pop(key, None) is not None:
                self._drop(key, node)

    def forget(self, node: str) -> None:
        """The connection to it is gone, and what it said with it."""
        self._told.pop(node, None)
        self._heard.pop(node, None)
        self._clear(node)

    def _clear(self, node: str) -> None:
        for key in self._far.pop(node, {}):
            self._drop(key, node)

    def _drop(self, key: Key, node: str) -> None:
        nodes = self._nodes[key]
        del nodes[node]
        if not nodes:
            del self._nodes[key]

    def wanted(self, keys: Iterable[Key]) -> dict[str, int]:
        """The other hubs that want any of these, and how many of their watches do."""
        found: dict[str, int] = {}
        for key in keys:
            for node, count in self._nodes.get(key, {}).items():
                found[node] = found.get(node, 0) + count
        return found

    def __len__(self) -> int:
        return len(self._own)
