"""Signed requests: ES256 over protected header and payload, as flattened JSON.

Source: RFC 8555 §6.2 (which headers), RFC 7515 §7.2.2 (the form), RFC 7518 §3.4 (ES256 signatures
are r and s, 32 bytes each), RFC 7638 (thumbprint: the key's members in this order, without blanks).
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from paas.identity import keys


def b64(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def jwk(key: keys.PrivateKey) -> dict[str, str]:
    """The public half (RFC 7518 §6.2.1)."""
    numbers = key.public_key().public_numbers()
    x, y = (b64(number.to_bytes(32)) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(key: keys.PrivateKey) -> str:
    return b64(hashlib.sha256(_compact(jwk(key))).digest())


def key_authorization(token: str, key: keys.PrivateKey) -> str:
    """What proves that the account asks (RFC 8555 §8.1)."""
    return f"{token}.{thumbprint(key)}"


def dns_value(token: str, key: keys.PrivateKey) -> str:
    """The text of the record of `dns-01` (RFC 8555 §8.4)."""
    return b64(hashlib.sha256(key_authorization(token, key).encode()).digest())


def signed(
    key: keys.PrivateKey, url: str, nonce: str, payload: Any | None, account: str = ""
) -> bytes:
    """A request's body.  `payload` None is POST-as-GET (§6.3); `account` stands for the key."""
    header: dict[str, Any] = {"alg": "ES256", "nonce": nonce, "url": url}
    header |= {"kid": account} if account else {"jwk": jwk(key)}
    protected = b64(_compact(header))
    content = "" if payload is None else b64(_compact(payload))
    r, s = decode_dss_signature(keys.sign(key, f"{protected}.{content}".encode()))
    signature = b64(r.to_bytes(32) + s.to_bytes(32))
    return _compact({"protected": protected, "payload": content, "signature": signature})


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
