"""Files sent along with a call, and those that come back (io).

Small ones travel in the message, larger ones piece by piece through the attachments of the node
that is asked, so that their size is bounded by the quota there and not by a message or by memory.
Names that come from components are names only: none leads out of the folder, none replaces a file.
"""

from __future__ import annotations

import base64
import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from paas.base.errors import PlatformError
from paas.cli.session import Session

INLINE_BYTES_MAX = 1 << 20
"""What all attachments of one message may be together to travel in it."""

PIECE_BYTES = 1 << 20
NAME_LENGTH_MAX = 200


def outgoing(session: Session, files: tuple[str, ...]) -> list[dict[str, Any]]:
    """The items of a call for these files."""
    items = []
    room = INLINE_BYTES_MAX
    for name in files:
        file = Path(name)
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        item: dict[str, Any] = {"name": file.name, "type": kind}
        try:
            with file.open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                if size <= room:
                    data = opened.read()
                    room -= len(data)
                    item["data"] = base64.b64encode(data).decode()
                else:
                    item.update(_store(session, opened))
        except OSError as exc:
            raise PlatformError("invalid", f"--attach {file}: {exc.strerror}") from None
        items.append(item)
    return items


def _store(session: Session, file: BinaryIO) -> dict[str, Any]:
    upload = _ask(session, "blob.begin", {})["upload"]
    offset = 0
    while piece := file.read(PIECE_BYTES):
        _ask(session, "blob.append", {"upload": upload, "offset": offset, "data": piece})
        offset += len(piece)
    stored: dict[str, Any] = _ask(session, "blob.commit", {"upload": upload})
    return {name: stored[name] for name in ("blob", "size", "node", "key")}


def _ask(session: Session, method: str, params: dict[str, Any]) -> Any:
    """In frames, where bytes are bytes; as JSON to a cluster elsewhere, which takes nothing else.

    A repetition is harmless: pieces say where they belong.
    """
    try:
        session.connection(binary=True)
    except PlatformError as exc:
        if exc.code != "unsupported":
            raise
    else:
        return session.change(method, params, binary=True)
    if "data" in params:
        params = {**params, "data": base64.b64encode(params["data"]).decode()}
    return session.change(method, params)


def save(session: Session, items: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write what has come into this folder; the files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        saved = []
        for item in items:
            path, file = _create(folder, safe_name(item.get("name")))
            try:
                with file:
                    for piece in _pieces(session, item):
                        file.write(piece)
            except BaseException:  # half a file would look like a whole one
                path.unlink(missing_ok=True)
                raise
            saved.append(path)
    except OSError as exc:
        raise PlatformError("invalid", f"--save {folder}: {exc.strerror}") from None
    return saved


def safe_name(name: object) -> str:
    """The last part of what a component calls its file, as a name that is harmless in a folder."""
    words = name.replace("\\", "/").rpartition("/")[2] if isinstance(name, str) else ""
    words = "".join(c if c.isprintable() else "_" for c in words)[:NAME_LENGTH_MAX]
    words = words.encode("utf-8", "replace")[:NAME_LENGTH_MAX].decode("utf-8", "ignore")
    return words.lstrip(".- ") or "attachment"


def _create(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    """A new file: what is there already stays as it is."""
    stem, suffix = os.path.splitext(name)
    number = 1
    while True:
        path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        try:
            return path, path.open("xb")
        except FileExistsError:
            number += 1


def _pieces(session: Session, item: dict[str, Any]) -> Iterator[bytes]:
    if "blob" not in item:
        yield base64.b64decode(item.get("data") or "")
        return
    place: dict[str, Any] = {name: item[name] for name in ("blob", "key", "node") if name in item}
    offset, end = 0, False
    while not end:
        piece = _ask(session, "blob.read", {**place, "offset": offset, "size": PIECE_BYTES})
        data = piece["data"]
        data = data if isinstance(data, bytes) else base64.b64decode(data)
        yield data
        offset += len(data)
        end = piece["eof"]


def described(items: list[dict[str, Any]]) -> str:
    """In one line, for people."""
    words = []
    for item in items:
        size = item.get("size", len(item.get("data", "")) * 3 // 4)
        words.append(f"{item.get('name', '?')} ({size} bytes)")
    return f"with attachments: {', '.join(words)}"
