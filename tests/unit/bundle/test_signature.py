"""Only a right signature of a trusted publisher is accepted, and the refusal says what is wrong."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.bundle import keys
from paas.bundle.signature import (
    PreHash,
    make_key,
    parse,
    parse_public_key,
    parse_secret_key,
    prehash,
    sign,
    verify,
)

KEY = make_key(bytes(range(40)))
OTHER = make_key(bytes(range(40, 80)))
TRUSTED = {KEY.public.key_id: KEY.public}
HASHED = prehash([b"content"])
TEXT = sign(KEY, HASHED, "hello@1 a comment")


def refusal(text: str, hashed: bytes = HASHED) -> str:
    with pytest.raises(PlatformError) as caught:
        verify(text, hashed, TRUSTED)
    assert caught.value.code == "untrusted"
    return caught.value.message


def test_a_right_signature_is_accepted_with_its_comment() -> None:
    signature = verify(TEXT, HASHED, TRUSTED)
    assert (signature.key_id, signature.comment) == (KEY.public.key_id, "hello@1 a comment")


def test_a_missing_signature_is_untrusted() -> None:
    assert "missing" in refusal("")
    assert "missing" in refusal(" \n")


def test_an_unknown_publisher_is_untrusted_and_named() -> None:
    assert f"unknown publisher, key {OTHER.public.key_id}" in refusal(sign(OTHER, HASHED, ""))


def test_a_signature_over_other_content_is_untrusted() -> None:
    assert "is wrong" in refusal(TEXT, prehash([b"other"]))


def test_a_changed_trusted_comment_is_untrusted() -> None:
    assert "is wrong" in refusal(TEXT.replace("a comment", "another"))


def test_a_signature_with_the_id_of_another_key_is_untrusted() -> None:
    forged = make_key(bytes(range(8)) + bytes(32))
    assert forged.public.key_id == KEY.public.key_id
    assert "is wrong" in refusal(sign(forged, HASHED, ""))


def test_the_untrusted_comment_may_be_anything() -> None:
    head, rest = TEXT.split("\n", 1)
    verify(head + " changed\n" + rest, HASHED, TRUSTED)
    verify(TEXT.replace("\n", "\r\n"), HASHED, TRUSTED)


def test_the_legacy_form_is_untrusted_with_a_hint() -> None:
    lines = TEXT.split("\n")
    lines[1] = base64.b64encode(b"Ed" + base64.b64decode(lines[1])[2:]).decode()
    with pytest.raises(PlatformError, match="legacy") as caught:
        verify("\n".join(lines), HASHED, TRUSTED)
    assert "minisign" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "x",
        TEXT + "\nmore",
        TEXT.replace("untrusted comment: ", "comment: ", 1),
        TEXT.replace("\ntrusted comment: ", "\ncomment: "),
        TEXT.replace("RU", "!!", 1),
        "\n".join([*TEXT.split("\n")[:3], "AAAA", ""]),
        "\n".join([TEXT.split("\n")[0], base64.b64encode(b"XX" + bytes(72)).decode()])
        + "\n"
        + "\n".join(TEXT.split("\n")[2:]),
        TEXT.replace("a comment", "c" * 5000),
    ],
)
def test_what_is_not_a_signature_file_is_untrusted(text: str) -> None:
    assert "not a minisign signature" in refusal(text)


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_no_change_of_a_signature_makes_another_publisher_or_comment(at: int, letter: str) -> None:
    changed = TEXT[:at] + letter + TEXT[at + 1 :]
    try:
        signature = verify(changed, HASHED, TRUSTED)
    except PlatformError:
        return
    assert signature == parse(TEXT)


def test_the_prehash_is_of_the_stream_not_of_its_pieces() -> None:
    hasher = PreHash()
    for piece in (b"con", b"", b"tent"):
        hasher.update(piece)
    assert hasher.digest() == HASHED


def test_keys_read_back_from_their_text() -> None:
    assert parse_public_key(KEY.public.text()) == KEY.public
    assert parse_public_key(KEY.public.line()) == KEY.public
    assert parse_secret_key(KEY.text()) == KEY


def test_a_secret_key_never_shows_its_secret() -> None:
    assert repr(KEY.seed) not in repr(KEY)


@pytest.mark.parametrize("text", ["", "x", "RW!", "QUJD", KEY.text(), TEXT, "é" * 56, "a\nb"])
def test_what_is_not_a_public_key_is_refused(text: str) -> None:
    with pytest.raises(PlatformError, match="public_key: expected"):
        parse_public_key(text)


def test_what_is_not_a_secret_key_is_refused() -> None:
    with pytest.raises(PlatformError, match="secret_key: expected"):
        parse_secret_key(KEY.public.text())


def test_a_secret_key_with_a_password_is_refused_with_a_cure() -> None:
    raw = bytearray(base64.b64decode(KEY.text().split("\n")[1]))
    raw[2:4] = b"Sc"
    with pytest.raises(PlatformError, match="password") as caught:
        parse_secret_key(base64.b64encode(raw).decode())
    assert "-W" in caught.value.hint


def test_a_damaged_secret_key_is_refused() -> None:
    raw = bytearray(base64.b64decode(KEY.text().split("\n")[1]))
    raw[70] ^= 1
    with pytest.raises(PlatformError, match="belong together") as caught:
        parse_secret_key(base64.b64encode(raw).decode())
    assert caught.value.code == "corrupt"


def test_a_comment_of_several_lines_is_refused() -> None:
    with pytest.raises(PlatformError, match="comment"):
        sign(KEY, HASHED, "a\nb")


def test_a_key_needs_its_entropy() -> None:
    with pytest.raises(ValueError, match="40 random bytes"):
        make_key(b"short")


def test_a_saved_key_is_for_its_owner_alone_and_loads_equal(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "publisher.key"
    key = keys.generate()
    keys.save(key, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keys.load(path) == key == keys.load_or_generate(path)
    assert parse_public_key((tmp_path / "keys" / "publisher.key.pub").read_text()) == key.public
    assert sorted(p.name for p in path.parent.iterdir()) == ["publisher.key", "publisher.key.pub"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = keys.load_or_generate(path)
    with pytest.raises(PlatformError, match="already") as caught:
        keys.save(keys.generate(), path)
    assert caught.value.code == "conflict"
    assert keys.load(path) == first


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    keys.save(keys.generate(), path)
    path.chmod(0o644)
    with pytest.raises(PlatformError, match="read by others") as caught:
        keys.load(path)
    assert "chmod 600" in caught.value.hint


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="there is no secret key"):
        keys.load(tmp_path / "key")
