"""The ring of virtual nodes: which node decides about which part of all identifiers.

    identifier ── first 12 bits ──> virtual node 0..4095 ──> primary, first and second alternative

Pure: who holds what is dealt out anew from what was held before and who is there now.

Invariants, while at least one node is there
  - every virtual node has a primary; the numbers that two nodes hold differ by one at most;
  - a change of nodes moves no more than it must: what a node leaves behind, or what a new one needs
    for its share, and with it nothing between others;
  - alternatives are other nodes than the primary, and than each other; as many as there are, two at
    most.  Those of one primary are spread evenly, so that its loss spreads evenly;
  - what a lost node held goes to its first alternative as far as the balance allows, else to the
    second, else to whoever lacks most;
  - the same history gives the same ring everywhere: ties go by name and number, nothing is drawn.

Alternatives follow from the primaries and are not remembered.  Consistent hashing would need no
memory at all, but would spread 4,096 parts over three nodes by several per cent unevenly.

Source: platform document §4.7.1; docs/internals/cluster.md, "The ring".
"""

from __future__ import annotations

from collections.abc import Sequence

from paas.base.ids import VIRTUAL_NODES

ALTERNATIVES_MAX = 2
"""Further nodes of a virtual node, after its primary."""

Primaries = tuple[str | None, ...]

EMPTY: Primaries = (None,) * VIRTUAL_NODES
"""The ring without nodes."""


def deal(primaries: Primaries, present: Sequence[str]) -> Primaries:
    """The primaries when exactly these nodes are there, moved as little as can be."""
    nodes = sorted(set(present))
    if not nodes:
        return EMPTY
    held: dict[str, list[int]] = {node: [] for node in nodes}
    orphans: list[int] = []
    for number, primary in enumerate(primaries):
        held.get(primary or "", orphans).append(number)
    shares = _shares({node: len(numbers) for node, numbers in held.items()})
    result = list(primaries)
    wanting = {node: shares[node] - len(held[node]) for node in nodes}
    if orphans:
        _adopt(result, orphans, wanting, alternatives_of(primaries))
    surplus = [
        number for node in nodes for number in _spread(held[node], len(held[node]) - shares[node])
    ]
    _give(result, sorted(surplus), wanting)
    return tuple(result)


def moved_between(before: Primaries, after: Primaries) -> tuple[int, ...]:
    """The virtual nodes that have another primary."""
    return tuple([number for number, old in enumerate(before) if old != after[number]])


def _shares(counts: dict[str, int]) -> dict[str, int]:
    """How much each is to hold: the same, and one more for those that hold most already."""
    floor, more = divmod(VIRTUAL_NODES, len(counts))
    richest = frozenset(sorted(counts, key=lambda node: (-counts[node], node))[:more])
    return {node: floor + (node in richest) for node in counts}


def _adopt(
    result: list[str | None],
    orphans: list[int],
    wanting: dict[str, int],
    alternatives: Sequence[tuple[str, ...]],
) -> None:
    """Orphans to their alternatives, the first ones before the second ones; the rest to whoever."""
    for place in range(ALTERNATIVES_MAX):
        rest: list[int] = []
        for number in orphans:
            heirs = alternatives[number]
            heir = heirs[place] if place < len(heirs) else ""
            if wanting.get(heir, 0) > 0:
                result[number] = heir
                wanting[heir] -= 1
            else:
                rest.append(number)
        orphans = rest
    _give(result, orphans, wanting)


def _give(result: list[str | None], numbers: Sequence[int], wanting: dict[str, int]) -> None:
    """In turn to the nodes that lack something."""
    turn = [node for node in sorted(wanting) if wanting[node] > 0]
    place = 0
    for number in numbers:
        place %= len(turn)
        node = turn[place]
        result[number] = node
        wanting[node] -= 1
        if wanting[node]:
            place += 1
        else:
            del turn[place]


def _spread(numbers: list[int], count: int) -> list[int]:
    """So many of the numbers, at even distances: neighbours belong to one type."""
    return [numbers[i * len(numbers) // count] for i in range(count)]


def alternatives_of(primaries: Primaries) -> list[tuple[str, ...]]:
    """For each virtual node its first and second alternative, as far as there are nodes.

    The parts of one primary go around among the others, so each of these is first alternative of
    an equal part; the second alternative goes around among the rest in the same way.
    """
    nodes = sorted({primary for primary in primaries if primary is not None})
    places = {node: place for place, node in enumerate(nodes)}
    turns = dict.fromkeys(nodes, 0)
    others = len(nodes) - 1
    round_length = max(others * (others - 1), 1)
    known: dict[tuple[str, int], tuple[str, ...]] = {}
    result: list[tuple[str, ...]] = []
    for primary in primaries:
        if primary is None:
            result.append(())
            continue
        key = primary, turns[primary] % round_length
        turns[primary] += 1
        pair = known.get(key)
        if pair is None:
            pair = known[key] = _others(nodes, places[primary], key[1])
        result.append(pair)
    return result


def _others(nodes: list[str], own: int, turn: int) -> tuple[str, ...]:
    """The pair of other nodes whose turn it is; every ordered pair comes once in a round."""
    others = len(nodes) - 1
    if others < ALTERNATIVES_MAX:
        return tuple(node for place, node in enumerate(nodes) if place != own)
    first = turn % others
    second = (first + 1 + turn // others) % others
    return tuple(nodes[(own + 1 + place) % len(nodes)] for place in (first, second))
