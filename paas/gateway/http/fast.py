"""The common form of a request's head, split in one go; None for everything else.

Nine requests of ten have a usual method, a path, HTTP/1.1 and fields of visible ASCII with one
blank after the colon.  That form is a regular language smaller than the grammar of RFC 9112, so one
regular expression decides it; what it does not accept goes to strict.py, which alone refuses.  That
the two agree wherever this one accepts is tested with generated heads.
"""

from __future__ import annotations

import re

from paas.gateway.http.head import Headers

_HEAD = re.compile(
    r"(GET|POST|HEAD|PUT|DELETE|PATCH|OPTIONS) (/[!$-;=?-\[\]_a-z|~^`{}\"<>]*) HTTP/1\.1"
    r"((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?)*)"
)


def split(text: str) -> tuple[str, str, Headers] | None:
    """Method, target and headers of a head without its last two line ends, or None."""
    found = _HEAD.fullmatch(text)
    if found is None:
        return None
    method, target, fields = found.groups()
    headers = []
    for line in fields.split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        headers.append((name.lower(), value))
    return method, target, headers
