"""Who made this bundle?  Ed25519 signatures in the file format of the `minisign` tool.

    untrusted comment: <text>                                     not signed, never shown as fact
    base64( "ED" | key id 8 | Ed25519(BLAKE2b-512(content)) 64 )
    trusted comment: <text>                                       signed by the next line
    base64( Ed25519(signature 64 | text) 64 )

Only the pre-hashed form "ED" is accepted, since it can be verified in one pass over a stream; the
legacy form "Ed" is refused.  Secret keys are kept in minisign's own file format without a password
(mode 0600), so that `minisign -S` can sign with them too; a file protected by a password is refused
with the cure.  Source: minisign 0.11, "Signature format"; RFC 8032 (Ed25519); RFC 7693 (BLAKE2).

This module decides about bytes alone; `keys` reads and writes the files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from paas.base.errors import PlatformError, invalid
from paas.bundle.limits import SIGNATURE_BYTES_MAX

_UNTRUSTED = "untrusted comment: "
_TRUSTED = "trusted comment: "
_KEY_ALGORITHM = b"Ed"
_SIGNATURE_ALGORITHM = b"ED"
_LEGACY_ALGORITHM = b"Ed"
_NO_PASSWORD = b"\0\0"
_CHECKSUM_ALGORITHM = b"B2"
_KEY_ID_BYTES = 8
_SECRET_BYTES = 158
_SECRET_ZEROS = 48
"""Salt and cost parameters of a password, all zero when there is none."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A publisher's public key: 8 bytes that name it, 32 that verify."""

    id: bytes
    key: bytes

    @property
    def key_id(self) -> str:
        """The name as minisign prints it: 16 hexadecimal digits, little-endian."""
        return _key_id(self.id)

    def line(self) -> str:
        """The key as one word, which `minisign -P` takes."""
        return base64.b64encode(_KEY_ALGORITHM + self.id + self.key).decode()

    def text(self) -> str:
        """The content of a public key file."""
        return f"{_UNTRUSTED}minisign public key {self.key_id}\n{self.line()}\n"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A publisher's secret key; its representation never shows the secret."""

    public: PublicKey
    seed: bytes = field(repr=False)

    def text(self) -> str:
        """The content of a secret key file without a password."""
        secret = self.public.id + self.seed + self.public.key
        checksum = hashlib.blake2b(_KEY_ALGORITHM + secret, digest_size=32).digest()
        head = _KEY_ALGORITHM + _NO_PASSWORD + _CHECKSUM_ALGORITHM + bytes(_SECRET_ZEROS)
        encoded = base64.b64encode(head + secret + checksum).decode()
        return f"{_UNTRUSTED}minisign secret key {self.public.key_id}\n{encoded}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature file, taken apart but not verified."""

    id: bytes
    signature: bytes
    comment: str
    comment_signature: bytes

    @property
    def key_id(self) -> str:
        return _key_id(self.id)


class PreHash:
    """BLAKE2b-512 of a stream: what is signed in place of the content."""

    def __init__(self) -> None:
        self._sum = hashlib.blake2b(digest_size=64)

    def update(self, chunk: bytes) -> None:
        self._sum.update(chunk)

    def digest(self) -> bytes:
        return self._sum.digest()


def prehash(chunks: Iterable[bytes]) -> bytes:
    """The pre-hash of a whole stream."""
    summer = PreHash()
    for chunk in chunks:
        summer.update(chunk)
    return summer.digest()


def make_key(entropy: bytes) -> SecretKey:
    """A key from 40 random bytes: 8 for its name, 32 for the secret."""
    if len(entropy) != _KEY_ID_BYTES + 32:
        raise ValueError("a key is made from 40 random bytes")
    seed = entropy[_KEY_ID_BYTES:]
    return SecretKey(PublicKey(entropy[:_KEY_ID_BYTES], _public_bytes(seed)), seed)


def parse_public_key(text: str) -> PublicKey:
    """Read a public key file, or its second line alone; raises `invalid`."""
    raw = _decode(_payload(text, "public_key"), "public_key")
    if len(raw) != 42 or raw[:2] != _KEY_ALGORITHM:
        raise invalid("public_key", "expected the text of a minisign public key")
    return PublicKey(raw[2:10], raw[10:])


def parse_secret_key(text: str) -> SecretKey:
    """Read a secret key file without password; raises `invalid`."""
    raw = _decode(_payload(text, "secret_key"), "secret_key")
    if len(raw) != _SECRET_BYTES or raw[:2] != _KEY_ALGORITHM or raw[4:6] != _CHECKSUM_ALGORITHM:
        raise invalid("secret_key", "expected the text of a minisign secret key")
    if raw[2:4] != _NO_PASSWORD:
        raise PlatformError(
            "invalid",
            "secret_key: this key is protected by a password, which is not supported",
            hint="make a key without one: minisign -G -W",
            field="secret_key",
        )
    start = 6 + _SECRET_ZEROS
    name, seed, public = raw[start : start + 8], raw[start + 8 : start + 40], raw[start + 40 : -32]
    checksum = hashlib.blake2b(_KEY_ALGORITHM + raw[start:-32], digest_size=32).digest()
    # minisign leaves the checksum of a key without password at zero.
    if raw[-32:] not in (checksum, bytes(32)) or _public_bytes(seed) != public:
        raise PlatformError("corrupt", "secret_key: the key's parts do not belong together")
    return SecretKey(PublicKey(name, public), seed)


def sign(key: SecretKey, hashed: bytes, comment: str) -> str:
    """The text of a signature file over a pre-hash; the comment is signed too."""
    if not comment.isprintable():
        raise invalid("comment", "expected one line of printable text")
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    signature = private.sign(hashed)
    over_comment = private.sign(signature + comment.encode())
    first = base64.b64encode(_SIGNATURE_ALGORITHM + key.public.id + signature).decode()
    second = base64.b64encode(over_comment).decode()
    head = f"{_UNTRUSTED}signature of key {key.public.key_id}"
    return f"{head}\n{first}\n{_TRUSTED}{comment}\n{second}\n"


def parse(text: str) -> Signature:
    """Take a signature file apart; raises `untrusted` when it is missing, legacy, or not one."""
    if not text.strip():
        raise PlatformError("untrusted", "the bundle's signature is missing")
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if (
        len(text) > SIGNATURE_BYTES_MAX
        or len(lines) != 4
        or not lines[0].startswith(_UNTRUSTED)
        or not lines[2].startswith(_TRUSTED)
    ):
        raise _unreadable()
    try:
        first, second = _decode(lines[1], "signature"), _decode(lines[3], "signature")
    except PlatformError:
        raise _unreadable() from None
    if len(first) != 74 or len(second) != 64:
        raise _unreadable()
    if first[:2] == _LEGACY_ALGORITHM:
        raise PlatformError(
            "untrusted",
            "the signature has minisign's legacy form, which is not accepted",
            hint="sign again with: minisign -S -H",
        )
    if first[:2] != _SIGNATURE_ALGORITHM:
        raise _unreadable()
    return Signature(first[2:10], first[10:], lines[2].removeprefix(_TRUSTED), second)


def verify(text: str, hashed: bytes, trusted: Mapping[str, PublicKey]) -> Signature:
    """Check a signature file against the content's pre-hash and the trusted keys, by key id.

    Raises `untrusted`: missing, unreadable, of an unknown publisher, or wrong.
    """
    signature = parse(text)
    publisher = trusted.get(signature.key_id)
    if publisher is None:
        raise PlatformError(
            "untrusted",
            f"the signature is of an unknown publisher, key {signature.key_id}",
            publisher=signature.key_id,
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(publisher.key)
        key.verify(signature.signature, hashed)
        key.verify(
            signature.comment_signature,
            signature.signature + signature.comment.encode("utf-8", "surrogatepass"),
        )
    except (InvalidSignature, ValueError):
        raise PlatformError(
            "untrusted",
            f"the signature of key {signature.key_id} is wrong: bundle or signature were changed",
            publisher=signature.key_id,
        ) from None
    return signature


def _unreadable() -> PlatformError:
    return PlatformError("untrusted", "the signature is not a minisign signature file")


def _key_id(raw: bytes) -> str:
    return f"{int.from_bytes(raw, 'little'):016X}"


def _public_bytes(seed: bytes) -> bytes:
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _payload(text: str, name: str) -> str:
    """The base64 line of a key file: the one that is not a comment."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith(_UNTRUSTED)]
    if len(lines) != 1 or len(text) > SIGNATURE_BYTES_MAX:
        raise invalid(name, "expected the text of a minisign key file")
    return lines[0].strip()


def _decode(line: str, name: str) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(name, "expected base64 text") from None
