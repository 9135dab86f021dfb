"""`paas cp`: files into and out of components (io).

One side is TARGET:PATH.  The other side of the stream runs inside the container as the component's
user, so its quota holds and no link in there leads out; here the tree is written by descriptors, so
no link that comes along leads anywhere else than below the destination.
"""

from __future__ import annotations

import os
import posixpath
from typing import Any

from paas.base.errors import PlatformError, invalid
from paas.cli.session import Session
from paas.cli.streaming import Channel, Streams

APP = "/app"
"""What relative paths inside are relative to."""


def cp(session: Session, *, source: str, destination: str, root: bool) -> None:
    """Copy a file, or a directory with all that is below it."""
    from_inside, to_inside = _inside(source), _inside(destination)
    if (from_inside is None) == (to_inside is None):
        raise invalid("source", "expected one of the two to be inside a component, as TARGET:PATH")
    try:
        if from_inside is not None:
            result = _read(session, *from_inside, destination, root)
        else:
            assert to_inside is not None, "one of the two is"
            result = _write(session, source, *to_inside, root)
    except OSError as exc:
        text = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror or exc)
        code = "storage-full" if exc.errno in (28, 122) else "failed"
        raise PlatformError(code, text, hint="look at the path and its permissions") from None
    files = f"{result['files']} file{'' if result['files'] == 1 else 's'}"
    session.output.value(result, f"copied {files}, {result['bytes']} bytes")
    if result["skipped"]:
        shown = ", ".join(result["named"][:5])
        session.output.note(f"left out {result['skipped']} that cannot be copied: {shown}")


def _inside(word: str) -> tuple[str, str] | None:
    """(target, absolute path inside); None for a path here."""
    target, colon, path = word.partition(":")
    if not colon or "/" in target or not target:
        return None
    joined = posixpath.join(APP, path)
    return target, joined if not path.endswith("/.") else joined[:-1]


def _read(session: Session, target: str, path: str, destination: str, root: bool) -> dict[str, Any]:
    from paas.bundle import copying

    name = posixpath.basename(path.rstrip("/")) or "root"
    directory, name = copying.destination(destination, name)
    try:
        channel = _open(session, target, root, path=path)
        try:
            counts = copying.unpack(channel.chunks(), directory, name)
            result = channel.wait_end()
        except BaseException:
            channel.break_off()
            raise
    finally:
        os.close(directory)
    return {
        "files": counts.files,
        "bytes": counts.bytes,
        "skipped": counts.skipped + result["skipped"],
        "named": [*result["named"], *counts.named],
    }


def _write(session: Session, source: str, target: str, path: str, root: bool) -> dict[str, Any]:
    from paas.bundle import copying

    if not os.path.exists(source):
        raise invalid("source", f"expected a file or directory, {source!r} is not there")
    name = os.path.basename(os.path.realpath(source)) or "root"
    channel = _open(session, target, root, path=path, write=True, name=name)
    try:
        counts = copying.pack(source, channel.send_all)
        channel.end()
        result: dict[str, Any] = channel.wait_end()
    except BaseException:
        channel.break_off()
        raise
    skipped = counts.skipped + int(result["skipped"])
    return {**result, "skipped": skipped, "named": [*counts.named, *result["named"]]}


def _open(session: Session, target: str, root: bool, **params: Any) -> Channel:
    component = session.component_id(target)
    return Streams(session).open(
        "controller.files", {"component": component, "root": root, **params}
    )
