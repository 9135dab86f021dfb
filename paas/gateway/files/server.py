"""Files of a folder to browsers; what a request means is in rules.py.

A file is opened segment by segment below the folder, never through a symbolic link, and what is
opened must be a regular file: a folder that somebody else writes to cannot lead out of itself.
Disks are read in worker threads, a piece at a time.
"""

from __future__ import annotations

import os
import stat

import trio

from paas.gateway.files import rules
from paas.gateway.http.exchange import Exchange
from paas.gateway.http.head import Headers
from paas.gateway.http.problem import Problem
from paas.gateway.messages import Route
from paas.gateway.router import member_target

FILE_PIECE_BYTES = 256 << 10
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


async def serve_file(root: str, exchange: Exchange, route: Route) -> None:
    """Answer with a file of the route's folder.  Raises Problem (404, 405, 416)."""
    head = exchange.head
    if head.method not in ("GET", "HEAD"):
        raise Problem(405, "files are read with GET", [("allow", "GET, HEAD")])
    missing = Problem(404, "there is no such file")
    names = rules.segments(member_target(route, head.path, ""))
    folder = rules.segments("/" + route.directory.strip("/")) if route.directory else ()
    if not root or names is None or folder is None:
        raise missing
    try:
        descriptor = await trio.to_thread.run_sync(_open, root, (*folder, *names))
    except OSError:
        raise missing from None
    try:
        await _answer(exchange, route, descriptor, names[-1])
    finally:
        os.close(descriptor)


def _open(root: str, names: tuple[str, ...]) -> int:
    """The descriptor of a regular file.  Raises OSError."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            deeper = os.open(name, _FOLDER, dir_fd=at)
            os.close(at)
            at = deeper
        found = os.open(names[-1], _FILE, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise FileNotFoundError(names[-1])
    return found


async def _answer(exchange: Exchange, route: Route, descriptor: int, name: str) -> None:
    head, facts = exchange.head, os.fstat(descriptor)
    size = facts.st_size
    tag = rules.etag(size, facts.st_mtime_ns, facts.st_ino)
    headers: Headers = [
        ("etag", tag),
        ("last-modified", rules.http_date(facts.st_mtime)),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        *((key.lower(), value) for key, value in route.headers.items()),
    ]
    none_match = head.header("if-none-match")
    if rules.unchanged(none_match, head.header("if-modified-since"), tag, facts.st_mtime):
        return await exchange.answer(304, headers, b"")
    headers.append(("content-type", rules.content_type(name)))
    try:
        part = rules.byte_range(head.header("range"), head.header("if-range"), tag, size)
    except ValueError:
        told = [("content-range", f"bytes */{size}")]
        raise Problem(416, f"the file has {size} bytes", told) from None
    wanted = range(size) if part is None else part
    if part is not None:
        headers.append(("content-range", f"bytes {part.start}-{part.stop - 1}/{size}"))
    await exchange.start(200 if part is None else 206, headers, len(wanted))
    at = wanted.start
    while at < wanted.stop and head.method != "HEAD":
        most = min(FILE_PIECE_BYTES, wanted.stop - at)
        piece = await trio.to_thread.run_sync(os.pread, descriptor, most, at)
        if not piece:
            raise OSError("the file became shorter")  # the answer is cut off, and seen to be
        await exchange.write(piece)
        at += len(piece)
    return await exchange.end()
