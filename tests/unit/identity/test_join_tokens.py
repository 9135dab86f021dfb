from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.identity import join_tokens

AUTHORITY = "ab" * 32
ENTROPY = bytes(range(join_tokens.ENTROPY_BYTES))
TOKEN = join_tokens.make(ENTROPY, AUTHORITY)


def test_a_token_is_one_line_that_carries_the_authority() -> None:
    text = TOKEN.reveal()
    assert text == f"paas1-{ENTROPY[:8].hex()}-{ENTROPY[8:].hex()}-{AUTHORITY}"
    assert join_tokens.parse(text) == TOKEN
    assert join_tokens.parse(f"  {text}\n") == TOKEN


def test_the_secret_has_128_bits_and_is_not_shown() -> None:
    assert len(bytes.fromhex(TOKEN.secret)) == 16
    assert TOKEN.secret not in repr(TOKEN)
    assert TOKEN.secret not in TOKEN.digest()


def test_the_digest_tells_every_other_token_apart() -> None:
    other_secret = join_tokens.make(ENTROPY[:-1] + b"x", AUTHORITY)
    other_id = join_tokens.make(b"x" + ENTROPY[1:], AUTHORITY)
    assert len({TOKEN.digest(), other_secret.digest(), other_id.digest()}) == 3


@pytest.mark.parametrize("changed", [b"", ENTROPY[1:], ENTROPY + b"x"])
def test_too_little_or_too_much_entropy_makes_no_token(changed: bytes) -> None:
    with pytest.raises(ValueError, match="entropy"):
        join_tokens.make(changed, AUTHORITY)


def test_a_short_fingerprint_makes_no_token() -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        join_tokens.make(ENTROPY, AUTHORITY[1:])


def test_a_part_of_a_token_or_a_changed_one_is_none() -> None:
    text = TOKEN.reveal()
    for end in range(len(text)):
        assert join_tokens.parse(text[:end]) is None
    for wrong in (text.upper(), text + "0", text.replace("paas1", "paas2"), f"x {text}"):
        assert join_tokens.parse(wrong) is None


@given(st.text(max_size=300))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    found = join_tokens.parse(text)
    assert found is None or found.reveal() == text.strip()
