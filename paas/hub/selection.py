"""Selectors: which members of a group a message goes to (component API, "Targets").

    any              one that is available, in turn
    all              every one that is available
    leader           the member that joined first: the log decides it, not whoever asks
    nearest          one on this node, in turn; else on the node with the shortest round-trip
    least-loaded     for whom the fewest calls wait; ties in turn
    hash:<key>       the member that the key belongs to (consistent.py), else the next on the ring
    attribute:<name>=<json>   in turn, of those whose durable attribute has that value

Here are the words, and what "in turn" means: of the candidates, the one whose last turn is longest
ago (who never had one first, in joining order).  So among members that stay available no two are
ever more than one turn apart, whatever else comes, goes, or is allowed to one caller and not to
another.  `choosing.py` puts the selectors to work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.hub import limits

WORDS = ("any", "all", "leader", "nearest", "least-loaded")
SELECTORS = (*WORDS, "hash:<key>", "attribute:<name>=<json>")


_canonical = msgspec.msgpack.Encoder(order="sorted")
"""As attributes are kept: equal values are equal bytes."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector taken apart: `key` of a hash, or name and `value` (packed) of an attribute."""

    word: str
    key: str = ""
    value: bytes = b""


_PLAIN = {word: Selector(word) for word in WORDS}


def parse(text: str) -> Selector:
    """Raises `invalid` for what is no selector."""
    plain = _PLAIN.get(text)
    if plain is not None:
        return plain
    if len(text) > limits.SELECTOR_LENGTH_MAX:
        raise _invalid(f"expected at most {limits.SELECTOR_LENGTH_MAX} characters")
    word, colon, rest = text.partition(":")
    if word == "hash" and colon:
        if not rest:
            raise _invalid("expected a key after hash:")
        return Selector("hash", rest)
    if word == "attribute" and colon:
        name, equals, written = rest.partition("=")
        if not name or not equals:
            raise _invalid('expected attribute:<name>=<json>, such as attribute:zone="east"')
        try:
            value = _canonical.encode(msgspec.json.decode(written))
        except (msgspec.DecodeError, RecursionError, OverflowError):
            raise _invalid(f'expected JSON after =; text is quoted: attribute:{name}="…"') from None
        return Selector("attribute", name, value)
    raise _invalid(f"expected one of {', '.join(SELECTORS)}")


def check(selector: str) -> None:
    """Raise `invalid` for an unknown selector."""
    parse(selector)


def _invalid(expected: str) -> PlatformError:
    return invalid("selector", expected, param="selector")


class Turns:
    """Who had which turn, in each group."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, int]] = {}  # group -> member -> number of its last turn
        self._turn = 0

    def any(self, group: str, candidates: Sequence[str]) -> str:
        """One of the candidates (at least one), in turn."""
        last = self._last.get(group)
        if last is None:
            last = self._last[group] = {}
        chosen = candidates[0]
        if len(candidates) > 1:
            oldest = last.get(chosen, 0)
            for candidate in candidates:
                turn = last.get(candidate, 0)
                if turn < oldest:
                    chosen, oldest = candidate, turn
        self._turn += 1
        last[chosen] = self._turn
        return chosen

    def left(self, group: str, member: str) -> None:
        """It is no member any more."""
        self._last.get(group, {}).pop(member, None)

    def forget(self, group: str) -> None:
        self._last.pop(group, None)

    def groups(self) -> set[str]:
        return set(self._last)
