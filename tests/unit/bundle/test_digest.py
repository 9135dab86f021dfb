"""A content address has one form, and a stream that is not its content is an error."""

from __future__ import annotations

import hashlib

import pytest

from paas.base.errors import PlatformError
from paas.bundle import digest


def test_the_digest_is_sha256_in_its_text_form() -> None:
    assert digest.of(b"x") == "sha256:" + hashlib.sha256(b"x").hexdigest()
    assert digest.hexadecimal(digest.of(b"x")) == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 64, "../x"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(PlatformError, match="digest: expected"):
        digest.parse(text)


def test_a_stream_passes_and_is_refused_after_its_last_chunk() -> None:
    assert list(digest.verified([b"a", b"b"], digest.of(b"ab"))) == [b"a", b"b"]
    stream = digest.verified([b"a", b"c"], digest.of(b"ab"))
    assert [next(stream), next(stream)] == [b"a", b"c"]
    with pytest.raises(PlatformError, match="has the digest") as caught:
        next(stream)
    assert caught.value.code == "corrupt"
