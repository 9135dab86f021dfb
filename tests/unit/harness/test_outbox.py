"""The outbox: all at once, or earlier when much has gathered."""

from __future__ import annotations

from paas.harness.limits import EARLY_BYTES
from paas.harness.outbox import Outbox


def test_what_was_added_is_taken_at_once_in_order() -> None:
    outbox = Outbox()
    for piece in (b"a", b"", b"bc"):
        outbox.add(piece)
    assert outbox.bytes == 3
    assert outbox.take() == b"abc"
    assert outbox.bytes == 0


def test_what_the_kernel_did_not_accept_comes_first() -> None:
    outbox = Outbox()
    outbox.add(b"abc")
    outbox.put_back(outbox.take()[1:])
    outbox.add(b"d")
    assert outbox.take() == b"bcd"


def test_much_is_handed_on_before_the_turn_ends_and_little_is_not() -> None:
    outbox = Outbox()
    handed: list[int] = []
    outbox.on_many = lambda: handed.append(len(outbox.take()))
    piece = b"x" * (EARLY_BYTES // 4)
    for _ in range(9):
        outbox.add(piece)
    assert handed == [EARLY_BYTES, EARLY_BYTES]
    assert outbox.bytes == len(piece)
