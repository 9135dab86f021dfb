"""Which data path a gateway component takes, and what it says about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.gateway.component.join import chosen_data_path
from paas.gateway.component.main import settings_of
from paas.gateway.config import EdgeConfig

CONFIG = EdgeConfig(listen=["127.0.0.1:8080"], access_log="errors")


def program(folder: Path, text: str) -> str:
    """A folder with a program `haproxy`."""
    made = folder / "haproxy"
    made.write_text(f"#!/bin/sh\n{text}\n")
    made.chmod(0o755)
    return str(folder)


def test_it_is_haproxy_where_that_can_be_used_unless_something_else_is_said() -> None:
    assert settings_of({}).data_path == "auto"


async def test_haproxy_is_taken_where_it_is_installed() -> None:
    chosen = await chosen_data_path("auto", {}, CONFIG)
    assert chosen == await chosen_data_path("haproxy", {}, CONFIG)
    assert chosen.program.endswith("/haproxy")
    assert re.match(r"haproxy [0-9]+\.[0-9]+", chosen.said)


async def test_the_built_in_one_is_taken_when_that_is_said() -> None:
    assert await chosen_data_path("built-in", {}, CONFIG) == ("", "built-in: as configured")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "HAProxy does not say its version"),
        ("echo HAProxy version 2.4.22-1 2023/02/14", "HAProxy 2.4 is too old, 2.6 does"),
        (
            '[ "$1" = -v ] && echo HAProxy version 9.1.0-dev 2040/01/01 && exit\n'
            "echo what is nbthread >&2; exit 1",
            "what is nbthread",
        ),
    ],
)
async def test_who_cannot_be_used_is_told_of(tmp_path: Path, text: str, why: str) -> None:
    programs = program(tmp_path, text)
    assert await chosen_data_path("auto", {}, CONFIG, programs) == ("", f"built-in: {why}")
    with pytest.raises(PlatformError, match=why):
        await chosen_data_path("haproxy", {}, CONFIG, programs)


async def test_nobody_needs_haproxy(tmp_path: Path) -> None:
    said = "HAProxy is not installed here"
    assert await chosen_data_path("auto", {}, CONFIG, str(tmp_path)) == ("", f"built-in: {said}")
    with pytest.raises(PlatformError, match=said):
        await chosen_data_path("haproxy", {}, CONFIG, str(tmp_path))


async def test_settings_that_are_none_are_an_error() -> None:
    with pytest.raises(PlatformError, match=r"configuration\.haproxy"):
        await chosen_data_path("auto", {"threads": "many"}, CONFIG)
