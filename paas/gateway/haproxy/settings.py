"""What the HAProxy data path is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class HaproxySettings:
    """Addresses are `host:port`, as in EdgeConfig."""

    folder: str
    """Absolute path of a folder of its own, mode 0700: configuration and control sockets."""
    listen: tuple[str, ...] = ()
    tls: tuple[str, ...] = ()
    certificates: str = ""
    """Folder of `NAME.pem`, chain and key in one file or the key beside it as `NAME.key`."""
    edge: str = ""
    """Where the built-in gateway listens: `unix@/path` or `127.0.0.1:port`; it believes this one's
    X-Forwarded-For (`trusted_proxies`)."""
    trusted: tuple[str, ...] = ()
    """Networks of proxies before this one, which are believed about browsers."""
    program: str = "haproxy"
    threads: int = 1
    connections_max: int = 8192
    connections_per_source_max: int = 512
    http2: bool = True
    access_log: Literal["all", "errors", "none"] = "all"
    cookie_key: str = ""
    """Secret of stickiness cookies (letters and digits), the same for all gateways of a group."""
    checks: bool = True
    """Try connections to members that failed, and give them nothing meanwhile."""
    hard_stop_s: int = 86_400
    """How long an old worker's connections, WebSockets among them, may go on after a reload."""

    @property
    def frontends(self) -> int:
        """Plain, secure, `once`: each may have `connections_max`, so none keeps another waiting."""
        return bool(self.listen) + bool(self.tls) + 1
