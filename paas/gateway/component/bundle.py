"""The gateway's bundle, made from the installed packages: a folder that `paas push` takes (io).

Only what the gateway can import is in it (paas.bundle.installed).  Its base is `host`, so the
interpreter there must be of the version that the packages are installed for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from paas import __version__
from paas.base.errors import PlatformError
from paas.bundle.installed import collect, egress_section, new_folder

ENTRY = "paas.gateway.component.main"
NAME = "http-gateway"
ENDPOINTS = (("http", "http"), ("https", "https"))

MANIFEST = """\
# Made by `paas gateway build`.
[component]
name = "{name}"
version = "{version}"
description = "HTTP gateway: routes from outside to groups of components"
application = "gateway"
gateway = true
command = ["/usr/bin/python3", "-X", "frozen_modules=on", "-m", "{entry}"]
protocol = "msgpack"

[limits]
memory = "{memory}"
cpu = {cpu}
pids = 64

[supervision]
ready_timeout = 30
stop_timeout = {stop_s}
"""

ENDPOINT = """
[endpoints.{name}]
protocol = "{protocol}"
scope = "internet"
publish = {port}
"""


def build(
    directory: Path,
    *,
    version: str = "",
    publish: int = 0,
    publish_tls: int = 0,
    memory: str = "256M",
    cpu: float = 2.0,
    stop_s: float = 40.0,
    allow: Sequence[str] = (),
) -> str:
    """Write the folder; the full name of the type.  Ports are of the node, 0: none;
    `allow` is what it may reach outside of the cluster, as `host:port`: an authority for ACME.

    Raises `conflict` for a folder that has something in it, `unsupported` when the packages are for
    another interpreter than the node's, `invalid` for `allow`.
    """
    if not Path(f"/usr/bin/python3.{sys.version_info.minor}").exists():
        raise PlatformError(
            "unsupported",
            f"/usr/bin has no Python 3.{sys.version_info.minor}, which the packages here are for",
        )
    version = version or __version__
    text = MANIFEST.format(
        name=NAME, version=version, entry=ENTRY, memory=memory, cpu=cpu, stop_s=stop_s
    )
    if allow:
        text += "\n" + egress_section(allow)
    for (name, protocol), port in zip(ENDPOINTS, (publish, publish_tls), strict=True):
        text += ENDPOINT.format(name=name, protocol=protocol, port=port)
    new_folder(directory)
    collect(ENTRY, directory)
    (directory / "component.toml").write_text(text)
    return f"{NAME}@{version}"
