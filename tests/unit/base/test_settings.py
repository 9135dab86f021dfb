"""Settings from file and environment; every mistake is named with its place."""

from __future__ import annotations

from typing import Annotated

import pytest

from paas.base.errors import LocalError, PlatformError
from paas.base.settings import Description, Settings, check_sections, describe, read, setting


class Example(Settings, frozen=True):
    """Settings for the tests."""

    listen: Annotated[str, setting("Where to listen.")] = "127.0.0.1:7400"
    flush_s: Annotated[float, setting("Between two syncs.", unit="s", ge=0)] = 0.5
    voters: Annotated[int, setting("Replicas that vote.", ge=1)] = 5
    trace: Annotated[bool, setting("Record traces.")] = False
    peers: Annotated[tuple[str, ...], setting("Who to ask first.")] = ()
    zone: Annotated[str | None, setting("Failure domain.")] = None


class Strict(Settings, frozen=True):
    """A setting without default."""

    name: Annotated[str, setting("Name of the node.", min_length=1)]


def refuse(
    text: str = "", kind: type[Settings] = Example, environ: dict[str, str] | None = None
) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        read(kind, section="hub", text=text, source="my.toml", environ=environ)
    assert caught.value.code == "invalid"
    return caught.value


def test_defaults_hold_where_nothing_is_said() -> None:
    assert read(Example, section="hub") == Example()


def test_the_file_is_read() -> None:
    text = '[hub]\nlisten = "[::]:1"\nvoters = 3\npeers = ["a", "b"]\n[other]\nx = 1\n'
    settings = read(Example, section="hub", text=text)
    assert settings == Example(listen="[::]:1", voters=3, peers=("a", "b"))


def test_the_environment_wins_over_the_file() -> None:
    environ = {
        "PAAS_HUB_VOTERS": "7",
        "PAAS_HUB_TRACE": "true",
        "PAAS_HUB_PEERS": "a, b,",
        "PAAS_HUB_FLUSH_S": "0.25",
        "PAAS_HUB_ZONE": "west",
        "PAAS_STATE": "/elsewhere",
        "PAAS_NODE_NAME": "n1",
        "HOME": "/",
    }
    settings = read(Example, section="hub", text="[hub]\nvoters = 3\n", environ=environ)
    assert settings == Example(voters=7, trace=True, peers=("a", "b"), flush_s=0.25, zone="west")


def test_an_unknown_key_names_file_line_key_and_nearest() -> None:
    error = refuse("# settings\n[hub]\nvoters = 3\nlisen = 'x'\n")
    assert "my.toml:4: [hub] lisen: no such setting; did you mean listen?" in error.message
    assert error.data["field"] == "lisen"


def test_an_unknown_key_far_from_all_names_no_other() -> None:
    assert "did you mean" not in refuse("[hub]\nqqqq = 1\n").message


def test_an_unknown_variable_names_the_nearest() -> None:
    error = refuse(environ={"PAAS_HUB_VOTER": "3"})
    assert "PAAS_HUB_VOTER: no such setting; did you mean PAAS_HUB_VOTERS?" in error.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[hub]\nvoters = 0\n", "my.toml:2: [hub] voters: Expected `int` >= 1"),
        ("[hub]\nvoters = 'three'\n", "voters: Expected `int`, got `str`"),
        ("[hub]\nvoters = '3'\n", "voters: Expected `int`, got `str`"),
        ("[hub]\npeers = [1]\n", "peers: Expected `str`, got `int` - at `$[0]`"),
        ("[hub]\nlisten = \n", "my.toml: not TOML"),
        ("hub = 3\n", "[hub] is a table"),
    ],
)
def test_a_wrong_value_names_its_place_and_what_was_expected(text: str, expected: str) -> None:
    assert expected in refuse(text).message


def test_a_wrong_variable_names_itself() -> None:
    error = refuse(environ={"PAAS_HUB_FLUSH_S": "soon"})
    assert "PAAS_HUB_FLUSH_S: Expected `float`" in error.message


def test_a_required_setting_that_is_missing_is_named() -> None:
    assert "[hub] name: is required" in refuse(kind=Strict).message
    assert read(Strict, section="node", environ={"PAAS_NODE_NAME": "n1"}).name == "n1"


def test_sections_of_nobody_are_refused() -> None:
    known: dict[str, type[Settings]] = {"hub": Example, "node": Strict}
    check_sections("[hub]\n[node]\n", known)
    with pytest.raises(PlatformError, match=r"no such section \[hubs\]; did you mean hub\?"):
        check_sections("[hubs]\n", known)
    with pytest.raises(PlatformError, match="no such setting voters"):
        check_sections("voters = 1\n", known)


def test_describe_lists_everything_for_the_reference() -> None:
    rows = describe(Example, "hub")
    assert rows[1] == Description(
        key="flush_s",
        kind="number",
        default="0.5",
        unit="s",
        text="Between two syncs.",
        variable="PAAS_HUB_FLUSH_S",
    )
    assert [row.kind for row in rows] == [
        "text",
        "number",
        "whole number",
        "true or false",
        "list of text",
        "text or nothing",
    ]
    assert describe(Strict, "node")[0].default is None


def test_a_setting_without_text_is_a_bug() -> None:
    class Silent(Settings, frozen=True):
        size: int = 3

    with pytest.raises(LocalError, match="size has no text"):
        describe(Silent, "x")
