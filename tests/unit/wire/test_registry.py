"""The register: numbers are unique, and decoding names what is wrong."""

import msgspec
import pytest

from paas.base.errors import LocalError, PlatformError
from paas.wire import codec, registry
from paas.wire.registry import Nothing, Params, decode, method


class Inner(msgspec.Struct):
    port: int


class Sample(Params, frozen=True, kw_only=True):
    """A sample."""

    name: str
    inner: Inner | None = None


class Parcel(Params, frozen=True, kw_only=True):
    """A sample with binary data."""

    data: bytes


@pytest.fixture
def declared() -> object:
    made = method(9_990, "test.sample", Sample, Nothing)
    yield made
    del registry.BY_NAME["test.sample"], registry.BY_NUMBER[9_990]


@pytest.mark.usefixtures("declared")
def test_a_number_or_name_is_given_once() -> None:
    with pytest.raises(LocalError):
        method(9_990, "test.other", Sample, Nothing)
    with pytest.raises(LocalError):
        method(9_991, "test.sample", Sample, Nothing)


def test_a_retired_number_stays_out_of_use() -> None:
    registry.RETIRED[9_992] = "test.gone"
    try:
        with pytest.raises(LocalError):
            method(9_992, "test.new", Sample, Nothing)
    finally:
        del registry.RETIRED[9_992]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "name"),
        ({"name": 3}, "name"),
        ({"name": "a", "inner": {"port": "x"}}, "inner.port"),
        ({"name": "a", "inner": {}}, "inner.port"),
        ({"name": "a", "timeout": "soon"}, "timeout"),
        ([], "params"),
        ("text", "params"),
    ],
)
def test_a_bad_value_is_named(value: object, field: str) -> None:
    with pytest.raises(PlatformError) as caught:
        decode(codec.pack(value), Sample)
    assert caught.value.code == "invalid"
    assert caught.value.data["field"] == field
    assert caught.value.to_rpc()["code"] == -32602


def test_unknown_fields_are_ignored() -> None:
    assert decode(codec.pack({"name": "a", "novelty": 1}), Sample).name == "a"


def test_bytes_that_are_no_msgpack_are_invalid() -> None:
    with pytest.raises(PlatformError) as caught:
        decode(b"\xc1", Sample)
    assert caught.value.code == "invalid"


def test_binary_data_may_come_in_base64() -> None:
    assert decode(codec.pack({"data": "AAEC"}), Parcel).data == b"\0\1\2"


@pytest.mark.parametrize("rest", [b"\xa1", b"\x01\x02"])
def test_garbage_behind_base64_is_invalid(rest: bytes) -> None:
    """Typed decoding stops at the text, before it sees what is behind."""
    body = codec.pack({"data": "AAEC"})
    broken = body + rest if rest != b"\xa1" else bytes([body[0] + 1]) + body[1:] + rest
    with pytest.raises(PlatformError) as caught:
        decode(broken, Parcel)
    assert caught.value.code == "invalid"


def test_every_declared_method_has_a_text() -> None:
    import paas.bundle.messages
    import paas.container.methods
    import paas.controller.messages
    import paas.harness.messages
    import paas.hub.messages
    import paas.logs.messages
    import paas.node.messages  # noqa: F401

    for declared in registry.BY_NAME.values():
        assert declared.text, declared.name
        assert declared.result.__doc__, declared.name
