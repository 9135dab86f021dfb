"""Images on the command line: suggested names, sources of packages, pieces that are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.cli import image
from paas.cli.image_build import RECIPES, _packages, sources
from paas.oci.documents import Layer


@pytest.mark.parametrize(
    ("reference", "path", "name"),
    [
        ("docker.io/library/debian:12", "x.tar", "debian-12"),
        ("registry:5000/team/web:1.2.3", "x.tar", "web-1.2.3"),
        ("alpine:latest", "x.tar", "alpine"),
        ("name@sha256:abc", "x.tar", "name"),
        ("", "My Image.oci.tar", "my-image"),
        ("", "layout", "layout"),
        ("x" * 80, "x", "x" * 63),
    ],
)
def test_a_name_is_suggested_that_a_manifest_can_give(reference: str, path: str, name: str) -> None:
    assert image.suggested_name(reference, Path(path)) == name


@pytest.mark.parametrize("reference", ["12", "__", ":"])
def test_without_a_usable_name_one_is_asked_for(reference: str) -> None:
    with pytest.raises(PlatformError) as caught:
        image.suggested_name(reference, Path("x"))
    assert caught.value.hint == "--name"


DEB822 = """
Types: deb
URIs: http://packages.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
# a comment
URIs: http://packages.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
"""
ONE_LINE = """
# deb http://comment.example/debian bookworm main
deb [arch=amd64 signed-by=/x] http://packages.example/debian bookworm main  # ours
deb http://other.example/tool stable main
deb-src http://packages.example/debian bookworm main
"""


def etc(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        (folder / name.replace("__", "/").replace("_list", ".list")).write_text(text)
    return folder


def test_packages_come_from_where_the_machines_own_come_from(tmp_path: Path) -> None:
    place = etc(tmp_path, sources_list=ONE_LINE)
    (place / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert sources("bookworm", place) == [
        "deb http://packages.example/debian bookworm main",
        "deb http://packages.example/debian bookworm-updates main",
        "deb http://packages.example/debian-security bookworm-security main",
    ]


def test_of_another_release_this_machine_has_no_sources(tmp_path: Path) -> None:
    place = etc(tmp_path, sources_list=ONE_LINE)
    assert sources("trixie", place) == []
    assert sources("bookworm", tmp_path / "nothing") == []


def test_only_names_of_packages_are_handed_on() -> None:
    assert _packages(("perl,gcc", "make")) == ["perl", "gcc", "make"]
    for wrong in ("--hook", "a b", "../x", "A"):
        with pytest.raises(PlatformError, match="no package"):
            _packages((wrong,))


def test_recipes_are_releases_with_their_day() -> None:
    assert RECIPES["debian-12"].suite == "bookworm"
    assert all(recipe.epoch > 1_500_000_000 for recipe in RECIPES.values())


class Session:
    """A hub that remembers what it was sent."""

    def __init__(self, present: bool) -> None:
        self.present = present
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def change(self, method: str, params: dict[str, Any], **_: Any) -> Any:
        self.asked.append((method, params))
        return {"present": self.present, "upload": 7}


def test_a_layer_is_sent_in_pieces_of_one_size_at_their_offsets() -> None:
    session: Any = Session(present=False)
    layer = Layer(digest="sha256:1", size=2_500_000, diff_id="sha256:2")
    chunks = iter([b"a" * 700_000, b"b" * 1_500_000, b"c" * 300_000])
    assert image.send_layer(session, layer, chunks)
    pieces = [params for method, params in session.asked if method == "image.append"]
    assert [(p["offset"], len(p["data"])) for p in pieces] == [
        (0, 1 << 20),
        (1 << 20, 1 << 20),
        (2 << 20, 2_500_000 - (2 << 20)),
    ]
    assert session.asked[-1] == (
        "image.commit",
        {"upload": 7, "digest": "sha256:1", "diff_id": "sha256:2"},
    )


def test_a_layer_that_is_there_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunks() -> Any:
        raise AssertionError("nobody needs the bytes")
        yield b""

    session: Any = Session(present=True)
    layer = Layer(digest="sha256:1", size=5, diff_id="sha256:2")
    assert not image.send_layer(session, layer, chunks())
    assert len(session.asked) == 1
