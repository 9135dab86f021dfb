"""A manifest without a command leaves it to the image; the base `host` has none to give."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.bundle.manifest import from_plain, parse


def text(*lines: str) -> bytes:
    return "\n".join(["[component]", 'name = "x"', 'version = "1"', *lines]).encode()


def test_an_image_may_bring_the_command() -> None:
    manifest = parse(text('base = "redis"'))
    assert manifest.component.command == ()
    assert from_plain(manifest.to_plain()) == manifest


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "component.command: is required"),
        (('base = "host"',), "component.command: is required"),
        (("command = []",), "component.command: expected a list of strings"),
        (('base = "redis"', 'command = [" "]'), "expected a list of strings"),
    ],
)
def test_the_host_has_no_command_of_its_own(lines: tuple[str, ...], reason: str) -> None:
    with pytest.raises(PlatformError, match=reason):
        parse(text(*lines))
