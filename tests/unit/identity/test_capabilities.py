from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.identity import capabilities, names

WORDS = st.frozensets(st.from_regex(r"[a-z]{1,5}:[a-z0-9]{1,5}", fullmatch=True), max_size=20)


@given(WORDS)
def test_a_set_comes_back_from_its_text(words: frozenset[str]) -> None:
    assert capabilities.from_text(capabilities.to_text(words)) == words


@given(WORDS)
def test_a_set_has_one_text(words: frozenset[str]) -> None:
    assert capabilities.to_text(sorted(words, reverse=True)) == capabilities.to_text(words)


@pytest.mark.parametrize(
    "text", ["b:1 a:1", "a:1 a:1", "a:1  b:1", " a:1", "a:1 ", "a:*", "a", "a:"]
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(PlatformError, match="capabilities"):
        capabilities.from_text(text)


@pytest.mark.parametrize(
    "words", [["a b:c"], ["a:b\n"], ["a:" + "b" * 80], [f"a:{n}" for n in range(65)]]
)
def test_bad_or_too_many_words_are_refused(words: list[str]) -> None:
    with pytest.raises(PlatformError, match="capabilities"):
        capabilities.to_text(words)


def test_only_the_node_controller_may_have_agents_started() -> None:
    spawners = {r for r, held in capabilities.OF_ROLE.items() if capabilities.spawn("hub") in held}
    assert spawners == {names.NODE}


def test_a_missing_capability_is_named() -> None:
    capabilities.require(capabilities.OF_ROLE[names.NODE], "spawn:hub")
    with pytest.raises(PlatformError) as caught:
        capabilities.require(capabilities.OF_ROLE[names.HUB], "spawn:hub")
    assert caught.value.code == "denied"
    assert caught.value.data["missing"] == "spawn:hub"
