"""Codecs: what is decoded is what was encoded, and strangers cannot make it expensive."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import RemoteError
from paas.base.limits import NESTING_MAX
from paas.wire import codec

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither: null
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


def nested(depth: int) -> object:
    value: object = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@given(values)
def test_msgpack_comes_back_as_it_went(value: object) -> None:
    assert codec.unpack(codec.pack(value)) == value
    assert codec.unpack_own(codec.pack(value)) == value


@given(values)
def test_json_comes_back_as_it_went(value: object) -> None:
    assert codec.from_json(codec.to_json(value)) == value


@given(st.binary(max_size=300))
def test_garbage_is_the_peers_error_and_nothing_else(data: bytes) -> None:
    for decode in (codec.unpack, codec.from_json):
        with contextlib.suppress(RemoteError):
            decode(data)


@pytest.mark.parametrize("decode", ["msgpack", "json"])
def test_nesting_is_bounded(decode: str) -> None:
    def there_and_back(value: object) -> object:
        if decode == "json":
            return codec.from_json(codec.to_json(value))
        return codec.unpack(codec.pack(value))

    there_and_back(nested(NESTING_MAX))
    with pytest.raises(RemoteError, match="nested"):
        there_and_back(nested(NESTING_MAX + 1))


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 50_000])
def test_absurd_json_nesting_does_not_exhaust_the_stack(data: bytes) -> None:
    with pytest.raises(RemoteError):
        codec.from_json(data)


@pytest.mark.parametrize("data", [b"\x91" * 100_000, b"\x81\xa1a" * 50_000])
def test_absurd_msgpack_nesting_does_not_exhaust_the_stack(data: bytes) -> None:
    with pytest.raises(RemoteError):
        codec.unpack(data)


def test_extension_types_are_refused() -> None:
    with pytest.raises(RemoteError):
        codec.unpack(b"\xd4\x05\x00")


def test_attachments_of_json_become_bytes() -> None:
    data = base64.b64encode(b"\x00\xff").decode()
    value = codec.attachments_from_json({"attachments": [{"name": "a", "data": data}]})
    assert value["attachments"][0]["data"] == b"\x00\xff"


def test_an_attachment_that_is_not_base64_is_refused() -> None:
    with pytest.raises(RemoteError, match="base64"):
        codec.attachments_from_json({"attachments": [{"data": "*"}]})
