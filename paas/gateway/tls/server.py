"""TLS towards browsers: a folder of certificates, chosen by SNI, read again when it changes.

    certificates/NAME.pem     the chain, its own first, and the key; or beside it NAME.key
    certificates/default.pem  for who names no host, or an unknown one; else the first by name

A file that is replaced counts from the next handshake on; connections that are open stay.  A file
that cannot be read leaves what was there before in force, and is named in `problems`: a certificate
must not vanish because its renewal went wrong.  Write a new one beside it and rename it.

TLS 1.2 and 1.3; HTTP/2 and HTTP/1.1 by ALPN.  Source: RFC 6066 §3 (SNI), RFC 7301 (ALPN),
RFC 9113 §9.2 (TLS for HTTP/2).
"""

from __future__ import annotations

import ssl
import weakref
from dataclasses import dataclass, field
from pathlib import Path

from paas.base.errors import PlatformError
from paas.gateway.tls.names import find
from paas.identity import x509
from paas.identity.keys import Malformed

DEFAULT = "default"
FILES_MAX = 2_000

_CIPHERS_12 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 only what HTTP/2 allows (RFC 9113 appendix A)."""

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class _Shown:
    """One certificate as it is shown."""

    context: ssl.SSLContext
    names: frozenset[str]
    stamp: Stamp


@dataclass(slots=True)
class Certificates:
    """See the module's text."""

    folder: Path
    http2: bool = True
    problems: dict[str, str] = field(default_factory=dict)
    """File name → what is wrong with it, since the last reading."""

    loads: int = 0
    _shown: dict[str, _Shown] = field(default_factory=dict)
    _by_name: dict[str, _Shown] = field(default_factory=dict)
    _default: _Shown | None = None
    _asked: weakref.WeakKeyDictionary[ssl.SSLObject, frozenset[str]] = field(
        default_factory=weakref.WeakKeyDictionary
    )

    def reload(self) -> bool:
        """Read what changed; True when something did.  Blocks for a few small files."""
        found: dict[str, Stamp] = {}
        for path in sorted(self.folder.glob("*.pem"))[:FILES_MAX]:
            stamp = _stamp(path)
            if stamp:
                found[path.stem] = stamp
        changed = self._shown.keys() - found.keys()
        for name in changed:
            del self._shown[name]
        for name, stamp in found.items():
            known = self._shown.get(name)
            if known is not None and known.stamp == stamp:
                continue
            changed.add(name)
            self._load(name, stamp, known)
        if changed:
            self._by_name = {n: s for s in reversed(self._shown.values()) for n in s.names}
            self._default = self._shown.get(DEFAULT) or next(iter(self._shown.values()), None)
            self.loads += 1
        return bool(changed)

    def _load(self, name: str, stamp: Stamp, known: _Shown | None) -> None:
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(_CIPHERS_12)
            context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
            context.set_alpn_protocols(["h2", "http/1.1"] if self.http2 else ["http/1.1"])
            context.load_cert_chain(chain, key if key.exists() else None)
            context.sni_callback = self._choose
            facts = x509.facts(x509.read_chain(chain.read_bytes())[0])
        except (OSError, ValueError, Malformed) as exc:
            self.problems[chain.name] = str(exc)
            if known is not None:
                known.stamp = stamp  # not tried again until it changes
            return
        self.problems.pop(chain.name, None)
        names = frozenset(n.lower().rstrip(".") for n in facts.dns)
        self._shown[name] = _Shown(context, names, stamp)

    def _choose(
        self, session: ssl.SSLObject, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        found = find(self._by_name, name.lower()) if name else None
        shown = found or self._default
        if shown is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        session.context = shown.context
        if found is not None:
            self._asked[session] = found.names
        return None

    def context(self) -> ssl.SSLContext:
        """For a new connection.  Raises `unavailable` when there is no certificate."""
        if self._default is None:
            raise PlatformError("unavailable", f"no certificate in {self.folder}")
        return self._default.context

    def names_for(self, session: ssl.SSLObject) -> frozenset[str]:
        """The hosts that a connection is for: names of the certificate that was asked for.

        None for who named no host, or one for which there is only the default.
        """
        return self._asked.pop(session, frozenset())


def _stamp(path: Path) -> Stamp:
    """What tells that a file, or its key, is another one; empty when it is gone."""
    stamps = []
    for part in (path, path.with_suffix(".key")):
        try:
            facts = part.stat()
        except OSError:
            if part is path:
                return ()
            continue
        stamps.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(stamps)
