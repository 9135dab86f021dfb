"""The greeting of a connection between nodes: who, which channel, which version, which epoch.

    dialler   Hello    versions it speaks, cluster, node, channel, its last epoch
    acceptor  Welcome  the version and the epoch that both use from now on, or why it refuses

The certificates have proven the names before; here both say what they believe to talk about, so
that a wrong address or an old program ends in a sentence and not in garbage.  The epoch is one more
than the larger of what the two ends have seen on this channel, so it exceeds that of every earlier
connection in the life of either process.

The form of these two messages must never change but by further optional fields: it is what nodes of
different versions have in common.  Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from paas.base.errors import PlatformError, RemoteError
from paas.rpc.mesh_limits import EPOCH_MAX, HELLO_BYTES_MAX
from paas.wire import codec
from paas.wire.frame import HEADER_BYTES, frame

Name = Annotated[str, msgspec.Meta(max_length=128)]
Epoch = Annotated[int, msgspec.Meta(ge=0, le=EPOCH_MAX)]
Version = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of the dialling side."""

    versions: Annotated[list[Version], msgspec.Meta(max_length=32)]
    cluster: Name = ""
    node: Name
    channel: Name
    epoch: Epoch = 0


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of the accepting side."""

    node: Name
    version: Version = 0
    epoch: Epoch = 0
    error: Any = None


G = TypeVar("G", Hello, Welcome)


class GreetingReader:
    """Cuts one frame off the stream and keeps what follows it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """The body, once it is whole.  Raises RemoteError when it is too long."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < HEADER_BYTES:
            return None
        end = HEADER_BYTES + int.from_bytes(buffer[:HEADER_BYTES], "big")
        if end > HEADER_BYTES + HELLO_BYTES_MAX:
            length = end - HEADER_BYTES
            raise RemoteError(f"a greeting of {length} bytes, at most {HELLO_BYTES_MAX}")
        if len(buffer) < end:
            return None
        body = bytes(buffer[HEADER_BYTES:end])
        del buffer[:end]
        return body

    @property
    def rest(self) -> bytes:
        """What came after the frame."""
        return bytes(self._buffer)


def encode(greeting: Hello | Welcome) -> bytes:
    return frame(codec.pack(greeting))


def decode_hello(body: bytes) -> Hello:
    """Raises RemoteError."""
    return _decode(body, Hello)


def decode_welcome(body: bytes) -> Welcome:
    """Raises RemoteError."""
    return _decode(body, Welcome)


def answer(hello: Hello, *, node: str, expected: Hello) -> Welcome:
    """The verdict of `node`, the acceptor.  `expected` is the greeting that it would send in the
    caller's place: the name that the caller proved, our cluster, channel, versions and last epoch.

    Raises PlatformError when the caller is refused.
    """
    for field in ("cluster", "node", "channel"):
        theirs, ours = getattr(hello, field), getattr(expected, field)
        if theirs != ours:
            text = f"the greeting names the {field} {theirs!r}, expected {ours!r}"
            raise PlatformError("denied", text)
    common = [v for v in expected.versions if v in hello.versions]
    if not common:
        raise _no_common_version(expected.node, hello.versions, expected.versions)
    epoch = max(hello.epoch, expected.epoch) + 1
    if epoch > EPOCH_MAX:
        raise PlatformError("denied", "the greeting claims an epoch that nobody reaches")
    return Welcome(node=node, version=max(common), epoch=epoch)


def check(welcome: Welcome, *, node: str, sent: Hello) -> None:
    """The dialler's verdict on the answer to `sent`; raises PlatformError."""
    if welcome.error is not None:
        refusal = PlatformError.from_rpc(welcome.error)
        text = f"{node} refuses: {refusal.message}"
        raise PlatformError(refusal.code, text, hint=refusal.hint, **refusal.data)
    if welcome.node != node:
        raise PlatformError("denied", f"{welcome.node!r} answers in place of {node!r}")
    if welcome.version not in sent.versions:
        raise _no_common_version(node, [welcome.version], sent.versions)
    if welcome.epoch <= sent.epoch:
        text = f"{node} answers with the epoch {welcome.epoch}, which is not above {sent.epoch}"
        raise PlatformError("denied", text)


def _no_common_version(node: str, theirs: list[int], ours: list[int]) -> PlatformError:
    return PlatformError(
        "unsupported",
        f"{node} speaks the mesh protocol {_listed(theirs)}, this side {_listed(ours)}",
        hint="run the same version of the platform on both nodes",
        theirs=theirs,
        ours=ours,
    )


def _listed(versions: list[int]) -> str:
    return ", ".join(str(v) for v in versions) or "in no version"


def _decode(body: bytes, kind: type[G]) -> G:
    try:
        value = msgspec.msgpack.decode(body, type=kind)
        codec.check_nesting(getattr(value, "error", None))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise RemoteError(f"not a greeting: {exc}") from None
    return value
