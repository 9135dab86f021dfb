"""Keys and certificates on the disk, for their owner only.  (io)

    FOLDER/account.key      the account's key
    CERTIFICATES/NAME.pem   key and chain of one certificate, as the gateway reads them

Files have mode 0600 from their first byte on and are renamed into place whole.  The folder belongs
on a tmpfs or a volume of the gateway's own.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from paas.base.errors import PlatformError
from paas.gateway.acme import limits
from paas.identity import keys, x509
from paas.identity.keys import Malformed


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate that is usable; times in seconds since the epoch."""

    names: tuple[str, ...]
    begin_s: float
    end_s: float
    pem: bytes
    """Key and chain."""

    def __repr__(self) -> str:
        return f"Kept({self.names}, {self.end_s})"


def file_name(names: tuple[str, ...]) -> str:
    """Of the certificate of these names: the first of them, and a hash if there are more."""
    first = names[0].replace("*", "_")
    if len(names) == 1:
        return first
    return f"{first}-{hashlib.sha256(' '.join(sorted(names)).encode()).hexdigest()[:8]}"


def examine(pem: bytes, names: tuple[str, ...], now: float) -> Kept:
    """A key and its chain, that serve for these names now.  Raises Malformed with the reason."""
    key = keys.read_key(pem)
    begin = pem.find(b"-----BEGIN CERTIFICATE-----")
    if begin < 0:
        raise Malformed("no certificate")
    leaf = x509.read_chain(pem[begin:])[0]
    if keys.public_bytes(x509.public_key(leaf)) != keys.public_bytes(key.public_key()):
        raise Malformed("the certificate is for another key")
    facts = x509.facts(leaf)
    missing = set(names) - {name.lower() for name in facts.dns}
    if missing:
        raise Malformed(f"the certificate is not for {sorted(missing)[0]}")
    begin_s, end_s = facts.begin_ms / 1000, facts.end_ms / 1000
    if not begin_s - 3600 <= now < end_s:
        raise Malformed("the certificate is not valid now")
    return Kept(names, begin_s, end_s, pem)


class Store:
    """See the module's text.  Blocks for small files."""

    def __init__(self, folder: Path, certificates: Path) -> None:
        self._folder = folder
        self._certificates = certificates

    def account_key(self) -> keys.PrivateKey:
        """The account's key; made at the first time.  Raises PlatformError `corrupt`."""
        path = self._folder / "account.key"
        try:
            return keys.read_key(_read(path))
        except FileNotFoundError:
            key = keys.make_key()
            write(path, keys.key_pem(key))
            return key
        except Malformed as exc:
            raise PlatformError(
                "corrupt", f"{path}: {exc}", hint="remove it, and a new account is made"
            ) from None

    def certificate(self, names: tuple[str, ...], now: float | None = None) -> Kept | None:
        """What there is for these names, if it serves."""
        path = self._certificates / f"{file_name(names)}.pem"
        try:
            return examine(_read(path), names, time.time() if now is None else now)
        except (FileNotFoundError, Malformed):
            return None

    def end_of(self, pem: bytes, names: tuple[str, ...]) -> float:
        """When this one ends; 0 if it does not serve."""
        try:
            return examine(pem, names, time.time()).end_s
        except Malformed:
            return 0.0

    def keep(self, kept: Kept) -> None:
        """Put it where the gateway reads it."""
        write(self._certificates / f"{file_name(kept.names)}.pem", kept.pem)


def write(path: Path, content: bytes) -> None:
    """Whole or not at all, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(limits.CHAIN_BYTES_MAX + limits.KEY_BYTES_MAX)
