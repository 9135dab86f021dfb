"""What programs hold in their hands: a call, a result, attachments, attributes.

No I/O of their own: what must ask the platform (reading a large attachment, setting an attribute)
does so through the component that they came from.  A piece of work of several requests is a
generator that yields `(method, params)` and is sent the results; each front end drives it in its
own way, so that it is written once (`Steps`).
"""

# ruff: noqa: A002  (`object` is the word of the component API)

from __future__ import annotations

import os
import threading
import time

from paas.sdk.python.wire import ComponentError, data_in, data_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, BinaryIO

    Steps = Generator[tuple[str, dict[str, Any]], Any, Any]
    Source = bytes | bytearray | memoryview | str | os.PathLike[str] | Iterable[bytes]

DEFAULT_TIMEOUT_S = 30.0
INLINE_BYTES_MAX = 1 << 20
"""Attachments up to here travel in the message, larger ones by the blob store."""

PIECE_BYTES = 1 << 20

_once = threading.Lock()


class Result:
    """Outputs with attachments: what `attach` made, or maps with `name`, `type`, `data` (bytes)."""

    def __init__(self, outputs: Any = None, attachments: list[dict[str, Any]] | None = None):
        self.outputs = {} if outputs is None else outputs
        self.attachments = attachments or []


class Call:
    """What an operation can know about the call it answers."""

    __slots__ = (
        *("_attachments", "_cancelled", "begun", "component", "deadline", "inputs", "message"),
        *("object", "oneway", "operation", "sender", "size", "task", "trace"),
    )

    def __init__(self, params: dict[str, Any], component: Any = None) -> None:
        get = params.get
        self.component = component
        self.operation: str = get("operation", "")
        self.object: str = get("object", "")
        self.inputs: Any = get("inputs", {})
        self.sender: str = get("from", "")
        self.deadline: float | None = get("deadline")
        self.trace: str | None = get("trace")
        self.oneway: bool = get("oneway", False)
        self.message: dict[str, Any] | None = get("message")
        self.task: Any = None
        self.begun = False
        self.size = 0
        self._attachments: Any = get("attachments")
        self._cancelled: threading.Event | None = None

    @property
    def attachments(self) -> list[Attachment]:
        """Binary data that came with the inputs; each has `read()`, `open()`, `save(path)`."""
        given = self._attachments
        if not given:
            return []
        if not isinstance(given[0], Attachment):
            given = self._attachments = attachments_in(given, self.component)
        return list(given)

    @property
    def cancelled(self) -> threading.Event:
        """Set when nobody wants the answer any more."""
        if self._cancelled is None:
            with _once:
                if self._cancelled is None:
                    self._cancelled = threading.Event()
        return self._cancelled

    def was_cancelled(self) -> bool:
        return self._cancelled is not None and self._cancelled.is_set()

    def remaining(self) -> float:
        """Seconds until nobody waits for the answer any more."""
        return DEFAULT_TIMEOUT_S if self.deadline is None else self.deadline - time.time()

    @property
    def attempt(self) -> int:
        """Which attempt this is of a message from a durable mailbox; 0 for ordinary calls."""
        return int(self.message["attempt"]) if self.message else 0


class Attachment(dict):  # type: ignore[type-arg]
    """One attachment: `name`, `type`, and `data` or the place of its blob.

    `read`, `open` and `save` work for both; in asyncio and trio they are awaited.
    """

    component: Any = None

    @property
    def size(self) -> int:
        return len(self["data"]) if "data" in self else int(self.get("size", 0))

    def read(self) -> Any:
        """All of it, as bytes."""
        return self._drive(self._reading(_Gathered()))

    def open(self) -> Any:
        """A file without a name, at its beginning, with all of it; close it after use."""
        return self._drive(self._opening())

    def save(self, path: str | os.PathLike[str]) -> Any:
        """Write it to a file; its size."""
        return self._drive(self._saving(path))

    def _drive(self, steps: Steps) -> Any:
        if self.component is None:
            raise ComponentError("invalid", "this attachment came from no component")
        return self.component._drive(steps)

    def _reading(self, target: Any) -> Steps:
        for piece in (yield from self._pieces(target)):
            target.write(piece)
        return target.getvalue()

    def _opening(self) -> Steps:
        import tempfile

        file = tempfile.TemporaryFile()  # noqa: SIM115  (whoever asked for it closes it)
        try:
            for piece in (yield from self._pieces(file)):
                file.write(piece)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def _saving(self, path: str | os.PathLike[str]) -> Steps:
        with open(path, "wb") as file:  # small pieces, and who saves waits for nothing else
            for piece in (yield from self._pieces(file)):
                file.write(piece)
            return file.tell()

    def _pieces(self, target: Any) -> Steps:
        """Write what is not here piece by piece; what is here is returned."""
        if "blob" not in self:
            return [self.get("data", b"")]
        place = {name: self[name] for name in ("blob", "node", "key") if name in self}
        offset, end = 0, False
        while not end:
            answer = yield (
                "blob.read",
                {**place, "offset": offset, "size": PIECE_BYTES},
            )
            piece = data_in(answer["data"])
            target.write(piece)
            offset += len(piece)
            end = bool(answer.get("eof")) or not piece
        if "size" in self and offset != self["size"]:
            raise ComponentError("failed", f"{offset} bytes came of {self['size']}")
        return []


class _Gathered:
    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def getvalue(self) -> bytes:
        return b"".join(self._pieces)


class Attributes:
    """Attributes by assignment: `component.attributes["queue"] = 3`; `del` removes one.

    Assigned values are told to the hub at once: the thread waits for it, in asyncio and trio a
    failure goes to standard error (`await component.set_attributes(…)` says it to the caller).
    Reading asks the hub: it is awaited in asyncio and trio.
    """

    def __init__(self, component: Any, object: str = "", kind: str = "durable") -> None:
        self._component = component
        self._object = object
        self._kind = kind

    def __setitem__(self, name: str, value: Any) -> None:
        if value is None:
            raise ValueError("an attribute cannot be None; remove it with del")
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        self.update({name: None})

    def update(self, values: dict[str, Any]) -> None:
        """Several at once; None removes."""
        params: dict[str, Any] = {"attributes": values, "kind": self._kind}
        if self._object:
            params["object"] = self._object
        self._component._tell("hub.set_attributes", params)

    def __getitem__(self, name: str) -> Any:
        return self._ask([name], lambda answer: _attribute(answer, name))

    def get(self, name: str, default: Any = None) -> Any:
        return self._ask([name], lambda answer: answer["attributes"].get(name, default))

    def all(self) -> Any:
        return self._ask(None, lambda answer: answer["attributes"])

    def _ask(self, names: list[str] | None, convert: Callable[[Any], Any]) -> Any:
        params: dict[str, Any] = {"kind": self._kind}
        if self._object:
            params["object"] = self._object
        if names is not None:
            params["names"] = names
        return self._component._ask("hub.get_attributes", params, convert)


def _attribute(answer: dict[str, Any], name: str) -> Any:
    try:
        return answer["attributes"][name]
    except KeyError:
        raise ComponentError("invalid", f"no attribute {name!r}", field=name) from None


def operation(name: Any = None, *, object: str = "", inline: bool = False) -> Any:
    """Decorator of a method: it answers calls of this operation, `method(self, inputs, call)`.

    Without a name, the method's own.  For classes derived from a component, and for objects.
    """
    if callable(name):
        return operation()(name)

    def mark(function: Any) -> Any:
        function.paas_operation = (name or function.__name__, object, inline)
        return function

    return mark


def marked(thing: Any) -> Iterator[tuple[str, str, bool, Any]]:
    """The methods of an object that are decorated: name, object, inline, bound method."""
    found: dict[str, Any] = {}
    for cls in reversed(type(thing).__mro__):
        found.update((k, v) for k, v in vars(cls).items() if hasattr(v, "paas_operation"))
    for key, function in found.items():
        yield (*function.paas_operation, getattr(thing, key))


# -- attachments on their way ---------------------------------------------------------------------


def attachments_in(given: Any, component: Any) -> list[Attachment]:
    if not given:
        return []
    found = []
    for item in given:
        if not isinstance(item, Attachment):
            item = Attachment(item)
            if "data" in item or "blob" not in item:
                item["data"] = data_in(item.get("data", ""))
            item.component = component
        found.append(item)
    return found


def attachments_out(given: list[dict[str, Any]], binary: bool) -> list[dict[str, Any]]:
    return [
        dict(item) if "blob" in item else {**item, "data": data_out(item.get("data", b""), binary)}
        for item in given
    ]


def are_large(given: list[dict[str, Any]] | None) -> bool:
    return bool(given) and any(len(i.get("data", b"")) > INLINE_BYTES_MAX for i in given or ())


def uploading(given: list[dict[str, Any]], binary: bool) -> Steps:
    """The same attachments, the large ones as blobs; as they are where there is no blob store."""
    found = []
    for item in given:
        if len(item.get("data", b"")) > INLINE_BYTES_MAX:
            try:
                item = yield from attaching(item["data"], item, binary)
            except ComponentError as exc:
                if exc.code != "no-such-method":
                    raise
        found.append(item)
    return found


def attaching(source: Source, words: dict[str, Any], binary: bool) -> Steps:
    """A blob of this data."""
    begun = yield "blob.begin", {}
    offset = 0
    for piece in _pieces_of(source):
        data = data_out(piece, binary)
        params = {"upload": begun["upload"], "offset": offset, "data": data}
        yield "blob.append", params
        offset += len(piece)
    done = yield "blob.commit", {"upload": begun["upload"]}
    kept = {k: v for k, v in words.items() if k != "data"}
    return Attachment({**kept, **{k: done[k] for k in done if k != "upload"}})


def _pieces_of(source: Source) -> Iterator[bytes]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        view = memoryview(source)
        for at in range(0, len(view), PIECE_BYTES):
            yield bytes(view[at : at + PIECE_BYTES])
    elif isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            yield from _blocks(file)
    else:
        for block in source:
            yield from _pieces_of(block)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(PIECE_BYTES):
        yield block
