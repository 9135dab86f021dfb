"""The fetcher's bundle: a folder that `paas push` takes (io).

What the component may reach is said twice: by `[egress]` of its manifest, which the platform's
packet filter holds it to, and by its configuration (settings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paas import __version__
from paas.bundle.installed import collect, egress_section, new_folder

NAME = "http-fetcher"
GROUP = "fetchers"
ENTRY = "paas.fetcher.__main__"

MANIFEST = """\
# Made by `python -m paas.fetcher build`.
[component]
name = "{name}"
version = "{version}"
description = "Outbound HTTP: redirects, conditional requests, pace, retries, credentials"
command = ["/usr/bin/python3", "-m", "paas.fetcher"]
protocol = "msgpack"

[limits]
memory = "128M"
cpu = 1.0
pids = 32
disk = "32M"

{egress}
[supervision]
ready_timeout = 30
stop_timeout = 35
"""


def build(directory: Path, allow: Sequence[str], *, version: str = "") -> str:
    """Write the folder; the full name of the type.

    `allow`: what it may reach, as `host:port`, `*.domain:port` or `network:port`.  Raises
    PlatformError `invalid`, or `conflict` for a folder that has something in it.
    """
    text = MANIFEST.format(name=NAME, version=version or __version__, egress=egress_section(allow))
    new_folder(directory)
    collect(ENTRY, directory, more=("msgpack",))
    (directory / "component.toml").write_text(text)
    return f"{NAME}@{version or __version__}"
