"""Messages as bytes: JSON lines, or length-prefixed msgpack; errors and their form on the wire.

Pure.  A codec takes whatever bytes came and returns the whole messages in them, and makes bytes of
a message.  JSON lines are decoded many at a time: one conversion to text for all that one read
returned, then the scanner of the standard library from object to object, without splitting.
The first bytes of a connection tell the harness which codec it is; `hello` are bytes that say so
and nothing else, as the configuration comes in return.
"""

from __future__ import annotations

import binascii
import json
import json.encoder
import threading

TYPE_CHECKING = False  # as in `typing`, which takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MESSAGE_BYTES_MAX = 4 << 20
NESTING_MAX = 32
"""Deepest nesting in a message; the harness cannot read a deeper one, nor tell whose it is."""

_SHALLOW_BYTES = 80
"""A message this short cannot be nested too deep, with what every message has around it."""

_BRACKETS = bytes.maketrans(b"[{]}", b"(())")
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[{]}")))
_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])  # first bytes of msgpack's

OURS = -32000
NO_SUCH_METHOD = -32601


class ComponentError(Exception):
    """An error with a code of the platform: answered by others, or to be answered to a caller.

    Codes are those of the component API, such as `invalid`, `refused`, `timeout`, `failed`; a
    message from a durable mailbox is given up at once with `reject`.
    """

    def __init__(self, code: str, message: str = "", **data: Any) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message or code
        self.data = data

    def to_rpc(self) -> dict[str, Any]:
        return {"code": OURS, "message": self.message, "data": {**self.data, "code": self.code}}

    @classmethod
    def from_rpc(cls, error: dict[str, Any]) -> ComponentError:
        data = error.get("data")
        data = {str(k): v for k, v in data.items()} if isinstance(data, dict) else {}
        code = str(data.pop("code", "failed"))
        made = cls(code, str(error.get("message", "")))
        made.data = data
        return made


def _check_nesting(value: Any) -> None:
    """Raise ComponentError when arrays and maps are nested too deep."""
    level = [value]
    for _ in range(NESTING_MAX + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list, tuple))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ComponentError("limit-exceeded", f"it is nested more than {NESTING_MAX} deep")


def _is_shallow(line: bytes) -> bool:
    """Is this JSON certainly not nested too deep?  Brackets in texts count as brackets here."""
    if line.count(b"{") + line.count(b"[") <= NESTING_MAX:
        return True
    rest = line.translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(NESTING_MAX):  # the innermost ones vanish, one level at a time
        rest = rest.replace(b"()", b"")
        if not rest:
            return True
    return False


def _not_json(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} cannot be said in JSON")


def _json_encoder() -> Callable[[Any], str]:
    """The encoder of the standard library, made once instead of at every use where that can be."""
    plain = json.JSONEncoder(
        ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_not_json
    ).encode
    try:
        make = getattr(json.encoder, "c_make_encoder")  # noqa: B009  (not everywhere)
        said = getattr(json.encoder, "encode_basestring")  # noqa: B009
        once = make(None, _not_json, said, None, ":", ",", False, False, False)
        sample = {"a": [1, 1.5, True, None, "ä\n"], "b": {}}
        if "".join(once(sample, 0)) != plain(sample):
            return plain
    except Exception:  # another implementation of the language
        return plain
    join = "".join
    return lambda value: join(once(value, 0))


to_json = _json_encoder()


class JsonLines:
    """One JSON object a line; binary data of attachments in base64."""

    hello = b"\n"
    binary = False

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._parts: list[bytes] = []
        self._scan: Callable[[str, int], tuple[Any, int]] = getattr(json.JSONDecoder(), "scan_once")  # noqa: B009

    def feed(self, data: bytes) -> list[Any]:
        """The messages that are whole now; `sizes` are theirs."""
        self.sizes = []
        end = data.rfind(b"\n") + 1
        if not end:
            self._parts.append(data)
            return []
        rest = data[end:] if end < len(data) else b""
        if self._parts:
            data, end = b"".join([*self._parts, data[:end]]), 0
            self._parts.clear()
        elif rest:
            data = data[:end]
        if rest:
            self._parts.append(rest)
        return self._messages(data.decode("utf-8", "surrogatepass"))

    def _messages(self, text: str) -> list[Any]:
        messages: list[Any] = []
        scan, sized, at, end = self._scan, self.sizes.append, 0, len(text)
        try:
            while at < end:
                if text[at] in "\n\r\t ":
                    at += 1
                else:
                    message, behind = scan(text, at)
                    messages.append(message)
                    sized(behind - at)
                    at = behind
        except StopIteration:
            raise ValueError(f"not JSON: {text[at : at + 40]!r}") from None
        return messages

    @staticmethod
    def encode(message: dict[str, Any]) -> bytes:
        line = to_json(message).encode() + b"\n"
        if len(line) > _SHALLOW_BYTES and not _is_shallow(line):
            _check_nesting(message)
        return line

    @staticmethod
    def answer(identity: Any, outputs: Any) -> bytes:
        """The answer to an invocation that has outputs and nothing else: the frequent one."""
        if type(identity) is not int:
            identity = to_json(identity)
        body = to_json(outputs)
        line = f'{{"jsonrpc":"2.0","id":{identity},"result":{{"outputs":{body}}}}}\n'.encode()
        if len(line) > _SHALLOW_BYTES and not _is_shallow(line):
            _check_nesting({"result": {"outputs": outputs}})
        return line


class MsgpackFrames:
    """Four bytes of length, then a msgpack map; needs the package `msgpack` beside the program."""

    binary = True

    def __init__(self) -> None:
        try:
            library = __import__("msgpack")
        except ImportError:
            raise ComponentError(
                "unsupported",
                "the package msgpack is not there: put it into the bundle, or use json",
            ) from None
        self.sizes: list[int] = []
        self._parts: list[bytes] = []
        self._have = 0
        self._want = 4
        self._pack = library.Packer(use_bin_type=True).pack
        self._packing = threading.Lock()  # a packer has one buffer
        self._unpack = library.unpackb
        # An answer to a question that nobody asked: it is dropped, and tells the codec.
        self.hello = self.encode({"jsonrpc": "2.0", "id": 0, "result": {}})

    def feed(self, data: bytes) -> list[Any]:
        self.sizes = []
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._want:
            return []
        data = b"".join(self._parts) if len(self._parts) > 1 else data
        self._parts.clear()
        messages: list[Any] = []
        at, size = 0, len(data)
        while size - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if end > size:
                break
            body = data[at + 4 : end]
            messages.append(self._unpack(body, raw=False, strict_map_key=False))
            self.sizes.append(len(body))
            at = end
        rest = data[at:]
        self._have = len(rest)
        self._want = 4 if len(rest) < 4 else 4 + int.from_bytes(rest[:4], "big")
        if rest:
            self._parts.append(rest)
        return messages

    def encode(self, message: dict[str, Any]) -> bytes:
        with self._packing:
            body: bytes = self._pack(message)
        if len(body) - len(body.translate(None, _CONTAINERS)) > NESTING_MAX:
            _check_nesting(message)
        return len(body).to_bytes(4, "big") + body

    def answer(self, identity: Any, outputs: Any) -> bytes:
        return self.encode({"jsonrpc": "2.0", "id": identity, "result": {"outputs": outputs}})


def codec_named(name: str) -> JsonLines | MsgpackFrames:
    """`json`, `msgpack`, or `auto`: msgpack where its package is there, else JSON."""
    if name == "json":
        return JsonLines()
    if name == "msgpack":
        return MsgpackFrames()
    if name != "auto":
        raise ValueError(f"codec: expected json, msgpack or auto, not {name!r}")
    try:
        return MsgpackFrames()
    except ComponentError:
        return JsonLines()


def data_out(data: bytes, binary: bool) -> Any:
    """Binary data as the codec says it."""
    return data if binary else binascii.b2a_base64(data, newline=False).decode()


def data_in(data: Any) -> bytes:
    return data if isinstance(data, bytes) else binascii.a2b_base64(data or "")
