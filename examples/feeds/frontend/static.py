"""The page: three files, read once (io).

The policy lets in nothing but these files and connections to where they came from: no script in a
line of HTML, no address of anybody else, no frame around it (W3C CSP 3).
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import sessions
from exchange import Reply, Request

FOLDER = Path(__file__).resolve().parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SECURITY = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)
OVER_TLS = (("cross-origin-opener-policy", "same-origin"),)
"""What browsers ignore, and complain about, on pages that came without TLS."""


@dataclass(frozen=True, slots=True)
class File:
    kind: str
    etag: str
    plain: bytes
    packed: bytes


def load(folder: Path = FOLDER) -> dict[str, File]:
    """The files by path; `/` is index.html."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in KINDS:
            data = path.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            file = File(KINDS[path.suffix], etag, data, gzip.compress(data, 9, mtime=0))
            found["/" if path.name == "index.html" else f"/{path.name}"] = file
    return found


def reply(files: dict[str, File], request: Request) -> Reply | None:
    """The file at a path; None when there is none."""
    file = files.get(request.path)
    if file is None:
        return None
    headers = (
        *SECURITY,
        ("etag", file.etag),
        ("cache-control", "no-cache"),
        ("vary", "accept-encoding"),
    )
    if sessions.is_secure(request.headers):
        headers += OVER_TLS
    if file.etag in request.headers.get("if-none-match", ""):
        return Reply(304, headers)
    headers += (("content-type", file.kind),)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Reply(200, (*headers, ("content-encoding", "gzip")), file.packed)
    return Reply(200, headers, file.plain)
