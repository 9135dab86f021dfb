"""What a request for a file means: which file, which of its bytes, or none since nothing changed.

The path is decoded once and taken apart at slashes; a segment that is empty, `.`, `..`, begins with
a dot, or holds a slash, backslash or control character after decoding names no file.  So nothing
above the folder can be named, whatever the file system thinks of it; links are refused where the
file is opened.

Source: RFC 9110 §13 (conditions), §14 (ranges), §8.8.3 (ETag).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import unquote_to_bytes

INDEX = "index.html"
SEGMENTS_MAX = 32

TYPES = {
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "gif": "image/gif",
    "htm": "text/html; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff2": "font/woff2",
    "xml": "application/xml",
}
OTHER_TYPE = "application/octet-stream"

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


def segments(path: str) -> tuple[str, ...] | None:
    """The names that lead to the file, `index.html` for a folder's address; None: no file."""
    parts = path.split("/")[1:]
    if len(parts) > SEGMENTS_MAX:
        return None
    if not parts or not parts[-1]:
        parts = [*parts[:-1], INDEX]
    names = []
    for part in parts:
        try:
            name = unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            return None
        if not name or name.startswith(".") or any(c in "/\\" or c < " " for c in name):
            return None
        if len(name.encode()) > 255:
            return None
        names.append(name)
    return tuple(names)


def content_type(name: str) -> str:
    """By the ending of the name; never guessed from the content."""
    return TYPES.get(name.rpartition(".")[2].lower(), OTHER_TYPE)


def etag(size: int, mtime_ns: int, inode: int) -> str:
    """A strong validator: another content has another time, size or inode."""
    return f'"{mtime_ns:x}-{size:x}-{inode:x}"'


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(seconds), UTC), usegmt=True)


def unchanged(none_match: str | None, modified_since: str | None, tag: str, mtime: float) -> bool:
    """Has the browser what there is?  Then 304.  If-None-Match decides alone when it is there."""
    if none_match is not None:
        said = [part.strip().removeprefix("W/") for part in none_match.split(",")]
        return tag in said or "*" in said
    if modified_since is None:
        return False
    try:
        since = parsedate_to_datetime(modified_since)
    except (ValueError, TypeError, IndexError):
        return False
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return int(mtime) <= since.timestamp()


def byte_range(said: str | None, if_range: str | None, tag: str, size: int) -> range | None:
    """The bytes asked for; None: all of them.  Raises ValueError (416) when there are none such.

    Several ranges at once are answered with everything, which a server may do.
    """
    if said is None or (if_range is not None and if_range != tag):
        return None
    found = _RANGE.fullmatch(said.replace(" ", ""))
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        begin, end = max(size - int(suffix), 0), size
    else:
        begin = int(first)
        end = min(int(last) + 1, size) if last else size
        if last and int(last) < begin:
            return None
    if begin >= size or begin >= end:
        raise ValueError("no such range")
    return range(begin, end)
