"""Access tokens: one text form, a hash to keep, nothing shown by accident."""

import pytest

from paas.identity import access_tokens

TOKEN = access_tokens.make(bytes(range(access_tokens.ENTROPY_BYTES)))


def test_a_token_has_one_text_form() -> None:
    text = TOKEN.reveal()
    assert access_tokens.parse(text) == TOKEN
    assert len(text) == access_tokens.TEXT_CHARACTERS
    for other in (text.upper(), text + " ", " " + text, text[:-1], text + "0", "", "x" * 1_000_000):
        assert access_tokens.parse(other) is None


def test_the_hash_is_of_the_whole_token() -> None:
    digest = TOKEN.digest()
    assert TOKEN.secret not in digest
    assert access_tokens.matches(TOKEN, digest)
    other = access_tokens.AccessToken(TOKEN.id, "0" * len(TOKEN.secret))
    assert not access_tokens.matches(other, digest)
    assert not access_tokens.matches(access_tokens.AccessToken("0" * 16, TOKEN.secret), digest)


def test_the_secret_is_not_shown_by_accident() -> None:
    assert TOKEN.secret not in repr(TOKEN)


def test_a_token_takes_its_entropy_exactly() -> None:
    with pytest.raises(ValueError):
        access_tokens.make(b"too little")
