"""What the authorities of a node keep on disk: keys, certificates, and what was issued.

    authority.pem       of the cluster: key (PKCS #8) and self-signed certificate, in one file so
                        that there is never one without the other; on the node that began it only
    node-key.pem        the key of this node's authority; stays as long as the node is one
    node-authority.pem  the certificate of this node's authority, then the cluster's
    issued              one line "paas-issued 1 <sha256 of the rest>", then the records as JSON

All are replaced whole: written beside, synced, renamed, the directory synced.  So a crash at any
instruction leaves the old or the new content; a file that is neither was damaged by something else
and is refused, with an error that names it.  Nothing is repaired by guessing: an authority that
forgot what it issued would issue serial numbers twice.

A node that joins writes node-key.pem before it asks, issued when it has its answer, and
node-authority.pem last: a key without it belongs to a joining that was not finished.

At the first start the empty records are written before the authority; `authority.pem` is the point
of no return.  Records without an authority are therefore either empty (the first start was cut
short: begin again) or proof that the key was lost.

The directory is the `Files` port's root; that it is private is the agent's to check.
"""

from __future__ import annotations

import errno
import hashlib

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Files
from paas.certificates import node_chain
from paas.certificates.lifecycle import Certificate
from paas.certificates.limits import STATE_BYTES_MAX
from paas.certificates.node_chain import NodeChain
from paas.identity import x509
from paas.identity.keys import Malformed, PrivateKey, key_pem, public_bytes, read_key

AUTHORITY_FILE = "authority.pem"
NODE_KEY_FILE = "node-key.pem"
NODE_AUTHORITY_FILE = "node-authority.pem"
ISSUED_FILE = "issued"
_MAGIC = b"paas-issued 1 "
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Record(msgspec.Struct, kw_only=True):
    """One certificate that was issued and has not ended.  `key` is its fingerprint."""

    serial: str
    name: str
    key: str
    end_ms: int
    state: Certificate = Certificate.VALID


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Record])


class Store:
    """The files.  Every method is whole or raises; failures of the disk are PlatformErrors."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def load_authority(self) -> x509.Authority | None:
        """The authority, or None when there never was one; raises `corrupt` on anything else."""
        data = self._read(AUTHORITY_FILE)
        if data is None:
            return None
        try:
            key = read_key(data)
            certificate = x509.read_certificate(data[data.find(b"-----BEGIN CERTIFICATE-----") :])
            certified = public_bytes(x509.public_key(certificate))
        except Malformed as exc:
            raise _damaged(AUTHORITY_FILE, str(exc)) from None
        if certified != public_bytes(key.public_key()):
            raise _damaged(AUTHORITY_FILE, "key and certificate do not belong together")
        if not x509.signed_by(certificate, certificate):
            raise _damaged(AUTHORITY_FILE, "the certificate's signature is wrong")
        return x509.Authority(certificate, key)

    def save_authority(self, authority: x509.Authority) -> None:
        data = key_pem(authority.key) + x509.certificate_pem(authority.certificate)
        self._replace(AUTHORITY_FILE, data)

    def load_node_key(self) -> PrivateKey | None:
        """The key of this node's authority, or None; raises `corrupt`."""
        data = self._read(NODE_KEY_FILE)
        if data is None:
            return None
        try:
            return read_key(data)
        except Malformed as exc:
            raise _damaged(NODE_KEY_FILE, str(exc)) from None

    def save_node_key(self, key: PrivateKey) -> None:
        self._replace(NODE_KEY_FILE, key_pem(key))

    def load_node_chain(self) -> NodeChain | None:
        """This node's authority, or None; raises `corrupt`, also when the key is another's."""
        data = self._read(NODE_AUTHORITY_FILE)
        if data is None:
            return None
        key = self.load_node_key()
        try:
            chain = node_chain.read(data)
            certified = public_bytes(x509.public_key(chain.certificate))
        except (Malformed, PlatformError) as exc:
            reason = exc.data["reason"] if isinstance(exc, PlatformError) else str(exc)
            raise _damaged(NODE_AUTHORITY_FILE, str(reason)) from None
        if key is not None and certified != public_bytes(key.public_key()):
            raise _damaged(NODE_AUTHORITY_FILE, "key and certificate do not belong together")
        if not x509.signed_by(chain.certificate, chain.root):
            raise _damaged(NODE_AUTHORITY_FILE, "the certificate's signature is wrong")
        return chain

    def save_node_chain(self, chain: NodeChain) -> None:
        self._replace(NODE_AUTHORITY_FILE, chain.pem())

    def load_issued(self) -> list[Record] | None:
        """The records, or None when there is no file; raises `corrupt` when it is damaged."""
        data = self._read(ISSUED_FILE)
        if data is None:
            return None
        line, separator, body = data.partition(b"\n")
        digest = hashlib.sha256(body).hexdigest().encode()
        if not separator or line != _MAGIC + digest:
            raise _damaged(ISSUED_FILE, "the checksum does not match")
        try:
            return _decoder.decode(body)
        except msgspec.DecodeError as exc:
            raise _damaged(ISSUED_FILE, str(exc)) from None

    def save_issued(self, records: list[Record]) -> None:
        body = _encoder.encode(records)
        digest = hashlib.sha256(body).hexdigest().encode()
        self._replace(ISSUED_FILE, _MAGIC + digest + b"\n" + body)

    def _read(self, name: str) -> bytes | None:
        try:
            if not self._files.exists(name):
                return None
            file = self._files.open(name)
            try:
                size = file.size()
                if size > STATE_BYTES_MAX:
                    raise _damaged(name, f"{size} bytes are too many")
                return file.read(0, size)
            finally:
                file.close()
        except OSError as exc:
            raise _disk(name, exc) from None

    def _replace(self, name: str, data: bytes) -> None:
        temporary = f"{name}.new"
        try:
            if self._files.exists(temporary):
                self._files.remove(temporary)
            file = self._files.open(temporary, create=True)
            try:
                file.write(0, data)
                file.sync()
            finally:
                file.close()
            self._files.rename(temporary, name)
            self._files.sync_dir()
        except OSError as exc:
            raise _disk(name, exc) from None


def _damaged(name: str, why: str) -> PlatformError:
    return PlatformError(
        "corrupt",
        f"the authority's file {name} is damaged: {why}",
        hint=f"restore {name} from a backup of the state directory; do not delete it",
        file=name,
    )


def _disk(name: str, exc: OSError) -> PlatformError:
    if exc.errno in _FULL:
        return PlatformError("storage-full", f"no space to write the authority's file {name}")
    why = exc.strerror or type(exc).__name__
    return PlatformError("internal", f"the authority's file {name} cannot be used: {why}")
