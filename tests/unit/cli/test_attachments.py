"""Files that come with an answer are written into one folder and nowhere else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, cast

import pytest

from paas.base.errors import PlatformError
from paas.cli import attachments
from paas.cli.session import Session


class Node:
    """What a session is asked, answered from a dictionary of blobs."""

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self.uploads: dict[int, bytes] = {}
        self.asked: list[str] = []

    def connection(self, *, binary: bool = False) -> None:
        if binary and not self.binary:
            raise PlatformError("unsupported", "not over HTTPS")

    def change(self, method: str, params: dict[str, Any], *, binary: bool = False) -> Any:
        assert binary == self.binary
        self.asked.append(method)
        if method == "blob.begin":
            self.uploads[7] = b""
            return {"upload": 7}
        if method == "blob.append":
            data = params["data"] if binary else base64.b64decode(params["data"])
            assert params["offset"] == len(self.uploads[7])
            self.uploads[7] += data
            return {}
        if method == "blob.commit":
            return {"blob": "d", "size": len(self.uploads[7]), "node": "n1", "key": "k"}
        data = self.uploads[7][params["offset"] : params["offset"] + params["size"]]
        said = data if binary else base64.b64encode(data).decode()
        return {"data": said, "eof": params["offset"] + len(data) == len(self.uploads[7])}


@pytest.mark.parametrize("binary", [True, False])
def test_a_large_file_goes_in_pieces_and_comes_back(tmp_path: Path, binary: bool) -> None:
    session = Node(binary=binary)
    data = bytes(range(256)) * 10_000
    (tmp_path / "large.bin").write_bytes(data)
    (tmp_path / "small.txt").write_bytes(b"small")
    names = (str(tmp_path / "large.bin"), str(tmp_path / "small.txt"))
    large, small = attachments.outgoing(cast("Session", session), names)
    assert (large["name"], large["size"], large["key"]) == ("large.bin", len(data), "k")
    assert "data" not in large
    assert (small["type"], base64.b64decode(small["data"])) == ("text/plain", b"small")
    files = attachments.save(cast("Session", session), [large, small], tmp_path / "new" / "folder")
    assert [f.read_bytes() for f in files] == [data, b"small"]


def test_many_small_files_do_not_make_a_large_message(tmp_path: Path) -> None:
    session = Node(binary=True)
    for number in range(3):
        (tmp_path / str(number)).write_bytes(bytes(600_000))
    names = tuple(str(tmp_path / str(number)) for number in range(3))
    items = attachments.outgoing(cast("Session", session), names)
    assert ["data" in item for item in items] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("..", "attachment"),
        ("/", "attachment"),
        ("C:\\x\\y.bin", "y.bin"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
        ("a\n\x1b[31mb", "a__[31mb"),
        (None, "attachment"),
        ("\ud800", "_"),
        ("é" * 300, "é" * 100),
    ],
)
def test_a_name_leads_nowhere_else(name: Any, safe: str) -> None:
    assert attachments.safe_name(name) == safe


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.bin").symlink_to(outside)
    items = [{"name": "x.bin", "data": base64.b64encode(b"%d" % n).decode()} for n in range(2)]
    files = attachments.save(cast("Session", Node(binary=True)), items, folder)
    assert [f.name for f in files] == ["x-2.bin", "x-3.bin"]
    assert [f.read_bytes() for f in files] == [b"0", b"1"]
    assert not outside.exists()


def test_half_a_file_is_not_left(tmp_path: Path) -> None:
    class Lost(Node):
        def change(self, method: str, params: dict[str, Any], *, binary: bool = False) -> Any:
            if params["offset"]:
                raise PlatformError("not-available", "the node has gone")
            return {"data": b"x" * params["size"], "eof": False}

    item = {"name": "x.bin", "blob": "d", "key": "k", "node": "n1"}
    with pytest.raises(PlatformError, match="the node has gone"):
        attachments.save(cast("Session", Lost(binary=True)), [item], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"--attach .*none: No such file"):
        attachments.outgoing(cast("Session", Node(binary=True)), (str(tmp_path / "none"),))
