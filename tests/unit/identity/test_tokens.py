from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.identity import tokens

ENTROPY = st.binary(min_size=tokens.ENTROPY_BYTES, max_size=tokens.ENTROPY_BYTES)


@given(ENTROPY)
def test_a_token_comes_back_from_its_text(entropy: bytes) -> None:
    token = tokens.make(entropy)
    again = tokens.parse(token.reveal())
    assert again == token
    assert tokens.matches(token, token.digest())


@given(ENTROPY, st.data())
def test_one_changed_bit_is_another_token_or_none(entropy: bytes, data: st.DataObject) -> None:
    token = tokens.make(entropy)
    text = bytearray(token.reveal().encode())
    bit = data.draw(st.integers(0, len(text) * 8 - 1))
    text[bit // 8] ^= 1 << bit % 8
    changed = tokens.parse(text.decode("latin-1"))
    assert changed is None or not tokens.matches(changed, token.digest())


@given(st.text(max_size=100))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    assert tokens.parse(text) is None


def test_other_spellings_are_no_tokens() -> None:
    text = tokens.make(bytes(range(40))).reveal()
    assert tokens.parse(text) is not None
    for other in (text.upper(), text + "\n", " " + text, text[:-1], text + "0", ""):
        assert tokens.parse(other) is None


def test_the_secret_is_not_shown() -> None:
    token = tokens.make(bytes(range(40)))
    assert token.secret not in repr(token)
    assert token.secret not in str(token)


def test_a_token_dies_at_its_expiry() -> None:
    assert not tokens.expired(9.999, 10)
    assert tokens.expired(10, 10)


def test_the_wrong_amount_of_entropy_is_refused() -> None:
    with pytest.raises(ValueError, match="40 bytes"):
        tokens.make(b"short")
