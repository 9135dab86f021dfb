"""The catalogue of errors and their way over JSON-RPC."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base.errors import CATALOGUE, Exit, Kind, PlatformError, invalid


@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=lambda kind: str(kind.code))
def test_every_row_has_a_text_a_hint_and_travels(kind: Kind) -> None:
    assert kind.text
    assert kind.hint
    assert kind.exit_status is not Exit.DONE
    sent = PlatformError(kind.code, "what happened", reasons=["a"])
    back = PlatformError.from_rpc(sent.to_rpc())
    assert (back.code, back.message, back.hint) == (kind.code, "what happened", kind.hint)
    assert back.data == {"reasons": ["a"]}


def test_an_unknown_code_is_a_bug() -> None:
    with pytest.raises(KeyError):
        PlatformError("no-such-code")


def test_invalid_names_the_field_and_what_was_expected() -> None:
    error = invalid("port", "a number from 1 to 65535")
    assert error.message == "port: a number from 1 to 65535"
    assert error.data == {"field": "port"}
    assert error.kind.exit_status is Exit.USAGE


def test_invalid_params_have_the_number_of_json_rpc() -> None:
    assert invalid("x", "y", param="x").to_rpc()["code"] == -32602
    assert invalid("x", "y").to_rpc()["code"] == -32000
    assert PlatformError("no-such-method").to_rpc()["code"] == -32601


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (None, "failed"),
        ("text", "failed"),
        ({}, "failed"),
        ({"code": -32601}, "no-such-method"),
        ({"code": -32602}, "invalid"),
        ({"code": 1, "data": {"code": "made-up"}}, "failed"),
        ({"code": 1, "data": {"code": ["x"], "message": 1, "self": 2, 3: 4}}, "failed"),
        ({"code": 1, "message": 5, "data": {"code": "conflict", "hint": 6}}, "conflict"),
    ],
)
def test_errors_of_strangers_are_read_without_trust(sent: Any, code: str) -> None:
    assert PlatformError.from_rpc(sent).code == code
