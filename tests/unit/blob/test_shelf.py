"""The accounts of attachments: quotas, keys, what goes when; and that they always add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from paas.base.errors import PlatformError
from paas.blob import limits
from paas.blob.shelf import COPY, Gone, Shelf

KEY, OTHER = "k" * 32, "o" * 32


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(owner_bytes_max=100, node_bytes_max=150)


def test_an_owner_is_charged_for_its_uploads_and_contents(shelf: Shelf) -> None:
    shelf.charge("a", 60, 0)
    shelf.refund("a", 60)
    shelf.add("d", 60, KEY, "a", 0)
    assert (shelf.used("a"), shelf.total) == (60, 60)
    with pytest.raises(PlatformError) as caught:
        shelf.charge("a", 41, 1)
    assert caught.value.code == "quota-exceeded"
    assert caught.value.data == {"used": 60, "limit": 100}
    shelf.charge("a", 40, 1)


def test_the_same_content_of_two_owners_takes_room_once(shelf: Shelf) -> None:
    shelf.add("d", 60, KEY, "a", 0)
    shelf.add("d", 60, OTHER, "b", 0)
    assert (shelf.used("a"), shelf.used("b"), shelf.total) == (60, 60, 60)
    assert shelf.release("d", KEY, "a")
    assert (shelf.used("a"), shelf.used("b"), shelf.total) == (0, 60, 60)
    assert shelf.take_gone() == [Gone("d", KEY, "a", last=False)]
    assert shelf.release("d", OTHER, "b")
    assert shelf.take_gone() == [Gone("d", OTHER, "b", last=True)]
    assert (shelf.total, len(shelf)) == (0, 0)


def test_the_node_is_full_for_everybody(shelf: Shelf) -> None:
    shelf.add("d", 100, KEY, "a", 0)
    with pytest.raises(PlatformError) as caught:
        shelf.charge("b", 51, 0)
    assert caught.value.code == "storage-full"


def test_copies_go_first_the_longest_unused_one_before_the_others(shelf: Shelf) -> None:
    shelf.add("own", 50, KEY, "a", 0)
    shelf.add("older", 40, KEY, COPY, 1)
    shelf.add("newer", 40, KEY, COPY, 0)
    shelf.find("newer", KEY, 5)
    shelf.charge("b", 60, 5)
    assert [gone.digest for gone in shelf.take_gone()] == ["older"]


def test_what_an_owner_has_not_used_for_a_while_makes_room_for_its_own(shelf: Shelf) -> None:
    shelf.add("d1", 60, KEY, "a", 0)
    shelf.add("d2", 40, KEY, "a", 30)
    with pytest.raises(PlatformError):
        shelf.charge("a", 10, limits.YIELDS_S - 1)
    assert shelf.take_gone() == []
    shelf.charge("a", 10, limits.YIELDS_S)
    assert [gone.digest for gone in shelf.take_gone()] == ["d1"]


def test_only_the_key_opens_a_content(shelf: Shelf) -> None:
    shelf.add("d", 1, KEY, "a", 0)
    assert shelf.find("d", KEY, 0) is not None
    for wrong in ("", OTHER, KEY[:-1], KEY + "k", "\ud800" * 32):
        assert shelf.find("d", wrong, 0) is None
    assert shelf.find("e", KEY, 0) is None


def test_nobody_releases_what_is_another_ones(shelf: Shelf) -> None:
    shelf.add("d", 1, KEY, "a", 0)
    assert not shelf.release("d", KEY, "b")
    assert not shelf.release("d", OTHER, "a")
    assert not shelf.release("e", KEY, "a")
    assert shelf.find("d", KEY, 0) is not None


@pytest.mark.parametrize(
    ("owner", "lives", "kept_s"),
    [("a", True, limits.KEPT_S), ("a", False, limits.ENDED_KEPT_S), (COPY, True, limits.CACHED_S)],
)
def test_what_nobody_uses_goes_after_its_time(
    shelf: Shelf, owner: str, lives: bool, kept_s: float
) -> None:
    shelf.add("d", 1, KEY, owner, 0)
    shelf.find("d", KEY, 10)
    shelf.sweep(10 + kept_s - 0.1, lambda _: lives)
    assert shelf.get("d") is not None
    shelf.sweep(10 + kept_s, lambda _: lives)
    assert shelf.get("d") is None
    assert shelf.take_gone() == [Gone("d", KEY, owner, last=True)]


def test_the_numbers_of_contents_and_grants_are_bounded(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRIES_MAX", 2)
    monkeypatch.setattr(limits, "GRANTS_MAX", 2)
    shelf.add("d1", 1, KEY, "a", 0)
    shelf.check_room("d1", "b", 0)
    shelf.check_room("d2", "a", 0)
    shelf.add("d1", 1, OTHER, "b", 0)
    shelf.add("d2", 1, KEY, "a", 0)
    for digest in ("d1", "d3"):
        with pytest.raises(PlatformError) as caught:
            shelf.check_room(digest, "c", 0)
        assert caught.value.code == "limit-exceeded"


class Accounts(RuleBasedStateMachine):
    """Any order of everything: the accounts are what a simple count says."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf(owner_bytes_max=50, node_bytes_max=120)
        self.now_s = 0.0
        self.uploads: dict[str, int] = {}
        self.files: dict[str, int] = {}

    owners = st.sampled_from(["a", "b", "c", COPY])
    digests = st.integers(1, 12)

    @rule(owner=owners, size=st.integers(0, 60))
    def charge(self, owner: str, size: int) -> None:
        try:
            self.shelf.charge(owner, size, self.now_s)
        except PlatformError:
            room = min(50 - self.shelf.used(owner) if owner != COPY else 120, 120)
            assert size > min(room, 120 - self.shelf.total)
        else:
            self.uploads[owner] = self.uploads.get(owner, 0) + size

    @rule(owner=owners)
    def refund(self, owner: str) -> None:
        self.shelf.refund(owner, self.uploads.pop(owner, 0))

    @rule(owner=owners, size=digests)
    def store(self, owner: str, size: int) -> None:
        """An upload becomes a content; its digest says its size."""
        if self.uploads.get(owner, 0) < size:
            return
        digest = f"d{size}"
        key = self.shelf.key_of(digest, owner) or f"{owner}{size}"
        self.shelf.add(digest, size, key, owner, self.now_s)
        self.shelf.refund(owner, size)
        self.uploads[owner] -= size
        self.files[digest] = size

    @rule(owner=owners, size=digests)
    def use(self, owner: str, size: int) -> None:
        entry = self.shelf.find(f"d{size}", f"{owner}{size}", self.now_s)
        assert entry is None or entry.size == size

    @rule(owner=owners, size=digests)
    def release(self, owner: str, size: int) -> None:
        self.shelf.release(f"d{size}", f"{owner}{size}", owner)

    @rule(size=digests)
    def discard(self, size: int) -> None:
        self.shelf.discard(f"d{size}")
        assert self.shelf.get(f"d{size}") is None

    @rule(passed_s=st.sampled_from([1.0, 31.0, 61.0, 601.0]), ended=st.sampled_from("abc"))
    def sweep(self, passed_s: float, ended: str) -> None:
        self.now_s += passed_s
        self.shelf.sweep(self.now_s, lambda owner: owner != ended)

    @invariant()
    def adds_up(self) -> None:
        for gone in self.shelf.take_gone():
            if gone.last and self.shelf.get(gone.digest) is None:
                self.files.pop(gone.digest, None)
        assert len(self.shelf) == len(self.files)
        entries = [self.shelf.get(digest) for digest in self.files]
        assert self.shelf.total == sum(self.files.values()) + sum(self.uploads.values())
        assert self.shelf.total <= 120
        for owner in ("a", "b", "c"):
            owned = sum(e.size for e in entries if e is not None and e.owned(owner))
            used = owned + self.uploads.get(owner, 0)
            assert self.shelf.used(owner) == used <= 50


class TestAccounts(Accounts.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_sweeping_asks_once_for_each_owner(shelf: Shelf) -> None:
    asked: list[str] = []

    def lives(owner: str) -> bool:
        asked.append(owner)
        return True

    for number in range(5):
        shelf.add(f"d{number}", 1, KEY, "ab"[number % 2], 0)
    sweep: Callable[..., Any] = shelf.sweep
    sweep(1, lives)
    assert sorted(asked) == ["a", "b"]
