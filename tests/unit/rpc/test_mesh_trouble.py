"""Troubles: told, but not without end."""

from __future__ import annotations

from paas.rpc.mesh_limits import TROUBLE_BURST, TROUBLE_KEYS_MAX, TROUBLE_REPEAT_S
from paas.rpc.mesh_trouble import Troubles


class Teller:
    """A clock to turn and what was told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.told: list[tuple[str, str]] = []
        self.troubles = Troubles(lambda p, t: self.told.append((p, t)), lambda: self.now_s)


def test_the_same_trouble_is_told_again_after_a_while_with_a_count() -> None:
    teller = Teller()
    for _ in range(5):
        teller.troubles.note("n2", "refused")
        teller.now_s += 1
    assert teller.told == [("n2", "refused")]
    teller.now_s += TROUBLE_REPEAT_S
    teller.troubles.note("n2", "refused")
    assert teller.told[1:] == [("n2", "refused (4 times more since)")]
    teller.now_s += TROUBLE_REPEAT_S
    teller.troubles.note("n2", "refused")
    assert teller.told[2:] == [("n2", "refused")]
    assert teller.troubles.count == 7


def test_other_parties_and_other_troubles_are_told_at_once() -> None:
    teller = Teller()
    wanted = [("n2", "refused"), ("n3", "refused"), ("n2", "late")]
    for party, text in wanted:
        teller.troubles.note(party, text)
    assert teller.told == wanted


def test_a_flood_of_different_troubles_is_counted_and_not_remembered() -> None:
    teller = Teller()
    for number in range(10_000):
        teller.troubles.note(f"host {number}", "refused")
    assert len(teller.told) == TROUBLE_BURST
    teller.now_s += TROUBLE_REPEAT_S
    teller.troubles.note("n2", "refused")
    left_out = 10_000 - TROUBLE_BURST
    assert teller.told[TROUBLE_BURST:] == [
        ("mesh", f"{left_out} further troubles were not told"),
        ("n2", "refused"),
    ]


def test_memory_is_bounded_over_a_long_time() -> None:
    teller = Teller()
    for number in range(20 * TROUBLE_KEYS_MAX):
        teller.troubles.note(f"host {number}", "refused")
        teller.now_s += 2
    assert len(teller.troubles._told) == TROUBLE_KEYS_MAX
