"""What a component can ask of the platform: one method for each, the same in every front end.

A method builds the params and says how the result is given back; how one waits is the business of
`_ask(method, params, convert, timeout)`.  In `Component` these methods return the value; in
`AsyncComponent` and `TrioComponent` they return what is to be awaited.
"""

# ruff: noqa: A002  (`object` is the word of the component API)

from __future__ import annotations

import os

from paas.sdk.python.values import (
    DEFAULT_TIMEOUT_S,
    INLINE_BYTES_MAX,
    Attachment,
    Attributes,
    are_large,
    attaching,
    attachments_in,
    attachments_out,
    uploading,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from paas.sdk.python.values import Source, Steps

    Event = Callable[[dict[str, Any]], Any]


class Api:
    """The methods; a front end has `_ask`, `_drive`, `_open_watch` and `_notify`."""

    _binary = False

    _ask: Callable[..., Any]
    _drive: Callable[[Steps], Any]
    _open_watch: Callable[..., Any]
    _close_watch: Callable[[int], None]
    _notify: Callable[[str, dict[str, Any]], None]
    _tell_cast: Callable[[dict[str, Any]], Any]

    # -- messages ----------------------------------------------------------------------------------

    def call(self, target: str, operation: str, inputs: Any = None, **options: Any) -> Any:
        """Ask a component (id, name or `group:<name>`); its outputs.  Raises ComponentError.

        Options are those of `call_whole`.  With `selector="all"`, the list of all replies.
        """
        timeout = options.pop("timeout", DEFAULT_TIMEOUT_S)
        return self._calling(target, operation, inputs, options, self._outputs, timeout)

    def call_whole(
        self,
        target: str,
        operation: str,
        inputs: Any = None,
        *,
        object: str = "",
        selector: str = "any",
        attachments: list[dict[str, Any]] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Any:
        """Like `call`, with everything the answer has: outputs, attachments, component, replies.

        `selector` says which member of a group: any, all, leader, nearest, least-loaded,
        `hash:<key>` or `attribute:<name>=<json>`.
        """
        options = {"object": object, "selector": selector, "attachments": attachments}
        return self._calling(target, operation, inputs, options, self._whole, timeout)

    def _calling(
        self,
        target: str,
        operation: str,
        inputs: Any,
        options: dict[str, Any],
        convert: Callable[[Any], Any],
        timeout: float,
    ) -> Any:
        if are_large(options.get("attachments")):
            steps = self._sending_large("hub.call", target, operation, inputs, options, timeout)
            return self._drive(_then(steps, convert))
        params = self._call_params(target, operation, inputs, **options)
        return self._ask("hub.call", params, convert, timeout)

    def _sending_large(
        self,
        method: str,
        target: str,
        operation: str,
        inputs: Any,
        options: dict[str, Any],
        timeout: float,
    ) -> Steps:
        attachments = yield from uploading(options["attachments"], self._binary)
        params = self._call_params(
            target, operation, inputs, **{**options, "attachments": attachments}
        )
        return (yield method, {**params, "timeout": timeout})

    def _call_params(
        self,
        target: str,
        operation: str,
        inputs: Any,
        object: str = "",
        selector: str = "any",
        attachments: list[dict[str, Any]] | None = None,
        id: str = "",
    ) -> dict[str, Any]:
        given = {} if inputs is None else inputs
        params: dict[str, Any] = {"target": target, "operation": operation, "inputs": given}
        if object:
            params["object"] = object
        if selector != "any":
            params["selector"] = selector
        if attachments:
            params["attachments"] = attachments_out(attachments, self._binary)
        if id:
            params["id"] = id
        return params

    def _whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        for reply in (answer, *answer.get("replies", ())):
            if reply.get("attachments"):
                reply["attachments"] = attachments_in(reply["attachments"], self)
        return answer

    def _outputs(self, answer: dict[str, Any]) -> Any:
        return self._whole(answer)["replies"] if "replies" in answer else answer.get("outputs")

    def cast(self, target: str, operation: str, inputs: Any = None, **options: Any) -> Any:
        """Tell without waiting for an answer; to how many components it went.

        Options are `object`, `selector`, `attachments`, and `id`: a group with a durable mailbox
        takes a cast with the same id once.
        """
        return self._casting(target, operation, inputs, options, lambda a: int(a["accepted"]))

    def cast_whole(self, target: str, operation: str, inputs: Any = None, **options: Any) -> Any:
        """Like `cast`; `accepted`, and `message`, the id of what a durable mailbox has taken."""
        return self._casting(target, operation, inputs, options, dict)

    def _casting(
        self,
        target: str,
        operation: str,
        inputs: Any,
        options: dict[str, Any],
        convert: Callable[[Any], Any],
    ) -> Any:
        if are_large(options.get("attachments")):
            steps = self._sending_large(
                "hub.cast", target, operation, inputs, options, DEFAULT_TIMEOUT_S
            )
            return self._drive(_then(steps, convert))
        return self._ask(
            "hub.cast", self._call_params(target, operation, inputs, **options), convert
        )

    def tell(
        self,
        target: str,
        operation: str,
        inputs: Any = None,
        *,
        object: str = "",
        selector: str = "any",
        attachments: list[dict[str, Any]] | None = None,
    ) -> Any:
        """A cast in a stream of casts: not each is confirmed, so many more of them fit in a second.

        Now and then one waits until the hub has handed it, and thus all before it, on: nobody runs
        ahead of the hub for more than that.  Then it raises what `cast` would; what is refused in
        between is counted at the hub (`paas top`) and lost.  Attachments up to 1 MiB.
        """
        params = self._call_params(target, operation, inputs, object, selector, attachments)
        return self._tell_cast(params)

    def push(
        self,
        gateway: str,
        connection: str,
        text: str = "",
        *,
        data: bytes | None = None,
        kind: str = "text",
        code: int = 1000,
        reason: str = "",
    ) -> Any:
        """Say something to a browser, by a WebSocket or an answer that goes on; returns when there
        is room for it.

        `gateway` is the sender of the call that told the `connection`.  `kind` is `text`, `binary`
        (`data`) or `close` (`code`, `reason`) for a WebSocket; `body` (`text` or `data`) or `end`
        for an answer with `stream`.  Raises ComponentError `no-such-target` when the browser is
        gone.
        """
        inputs = {"connection": connection, "kind": kind}
        said: dict[str, Any] = {"text": text} if text else {}
        if kind == "close":
            said = {"code": code, "reason": reason}
        attachments = None if data is None else [{"name": "data", "data": data}]
        return self.call(gateway, "gateway.send", {**inputs, **said}, attachments=attachments)

    def attach(self, source: Source, name: str = "", type: str = "application/octet-stream") -> Any:
        """An attachment of bytes, of a file (its path), or of pieces; large ones become blobs."""
        if isinstance(source, (str, os.PathLike)):
            name = name or os.path.basename(source)
        return self._drive(self._attaching(source, {"name": name, "type": type}))

    def _attaching(self, source: Source, words: dict[str, Any]) -> Steps:
        if isinstance(source, (bytes, bytearray, memoryview)) and len(source) <= INLINE_BYTES_MAX:
            made = Attachment({**words, "data": bytes(source)})
        elif isinstance(source, (str, os.PathLike)) and os.stat(source).st_size <= INLINE_BYTES_MAX:
            with open(source, "rb") as file:
                made = Attachment({**words, "data": file.read()})
        else:
            made = yield from attaching(source, words, self._binary)
        made.component = self
        return made

    # -- groups ------------------------------------------------------------------------------------

    def join(self, *groups: str, unique: bool = False) -> Any:
        """Join groups; positions, member counts and fencing tokens by group."""
        return self._ask("hub.join", {"groups": list(groups), "unique": unique}, dict)

    def leave(self, *groups: str) -> Any:
        """Leave groups."""
        return self._ask("hub.leave", {"groups": list(groups)}, _nothing)

    def members(self, group: str, selector: str = "all") -> Any:
        """The members of a group, in joining order."""
        params = {"group": group} if selector == "all" else {"group": group, "selector": selector}
        return self._ask("hub.members", params, lambda a: list(a["members"]))

    def groups(self, prefix: str = "") -> Any:
        """Groups by name, with how many members they have."""
        return self._ask("hub.groups", {"prefix": prefix}, lambda a: dict(a["groups"]))

    def await_members(
        self, group: str = "", *, name: str = "", count: int = 1, timeout: float = DEFAULT_TIMEOUT_S
    ) -> Any:
        """Wait until so many members of a group, or a named component, are available."""
        params: dict[str, Any] = {"name": name} if name else {"group": group, "count": count}
        return self._ask("hub.await", params, lambda a: list(a["members"]), timeout)

    # -- attributes and signals --------------------------------------------------------------------

    @property
    def attributes(self) -> Attributes:
        """Durable attributes of this component, by assignment."""
        return Attributes(self)

    @property
    def volatile(self) -> Attributes:
        """Volatile attributes of this component: they end with it."""
        return Attributes(self, kind="volatile")

    def attributes_of(self, object: str, kind: str = "durable") -> Attributes:
        """Attributes of an object of this component, by assignment."""
        return Attributes(self, object, kind)

    def set_attributes(self, attributes: dict[str, Any], **options: Any) -> Any:
        """Set several at once; the index of the log.  Options: `object`, `kind`, `expect`, `ttl`.

        With `expect`, only if these are the present values (None: not there), else `conflict`.
        """
        params = {"attributes": attributes, **options}
        return self._ask("hub.set_attributes", params, lambda a: a.get("index", 0))

    def get_attributes(
        self, target: str = "", names: list[str] | None = None, **options: Any
    ) -> Any:
        """Attributes of a component (this one by default) or of all members of `group:<name>`.

        Options: `object`, `kind`, `aggregate` (sum, min, max, avg, count).  The whole answer.
        """
        params: dict[str, Any] = {**options}
        if target:
            params["target"] = target
        if names is not None:
            params["names"] = names
        return self._ask("hub.get_attributes", params, dict)

    def signal(self, signal: str, payload: Any = None, *, object: str = "") -> Any:
        """Tell whoever watches this component's signals; how many watches there are."""
        params: dict[str, Any] = {"signal": signal, "payload": payload}
        if object:
            params["object"] = object
        return self._ask("hub.signal", params, lambda a: int(a["watchers"]))

    # -- watches -----------------------------------------------------------------------------------

    def watch(self, callback: Event, **what: Any) -> Any:
        """Be told of changes: `watch(callback, group="name")`; the snapshot and the watch's number.

        `what` is one of `group`, `components=True`, `attributes={"target": …}`,
        `signals={"target": …}`, and perhaps `since`, the index of the last event that is known.
        Nothing is missed when a hub is lost; if that cannot be kept, the callback gets an event
        `resumed` with a new snapshot in `data`, or `gap` for signals.
        """
        return self._open_watch("hub.watch", what, callback)

    def monitor(self, component: str, callback: Event) -> Any:
        """Be told once, with the reason, when a component ends."""
        return self._open_watch("controller.monitor", {"component": component}, callback)

    def unwatch(self, watch: int) -> Any:
        """End a watch."""
        self._close_watch(watch)
        return self._ask("hub.unwatch", {"watch": watch}, _nothing)

    # -- durable mailboxes -------------------------------------------------------------------------

    def configure_group(self, group: str, mailbox: str = "durable", **settings: Any) -> Any:
        """Give a group a durable mailbox: `attempts`, `backoff_s`, `ordered`, `timeout_s`, …"""
        params = {"group": group, "mailbox": mailbox, **settings}
        return self._ask("hub.configure_group", params, dict)

    def group(self, group: str = "") -> Any:
        """A group and its mailbox; without a name, all that have one."""
        return self._ask("hub.group", {"group": group}, lambda a: list(a["groups"]))

    def dead_letters(self, group: str, after: int = 0, limit: int = 100) -> Any:
        """Messages that no member has done, and why."""
        params = {"group": group, "after": after, "limit": limit}
        return self._ask("hub.dead_letters", params, lambda a: list(a["letters"]))

    def redeliver(self, group: str, *messages: str) -> Any:
        """Let dead letters wait again: those with these ids, or all; how many."""
        return self._ask("hub.redeliver", _letters(group, messages), lambda a: a["redelivered"])

    def discard(self, group: str, *messages: str) -> Any:
        """Forget dead letters: those with these ids, or all; how many."""
        return self._ask("hub.discard", _letters(group, messages), lambda a: a["discarded"])

    # -- the rest ----------------------------------------------------------------------------------

    def allowed(self, target: str, operation: str, *, object: str = "") -> Any:
        """May this component call that operation, and why (`hub.allow`)."""
        params = {"target": target, "operation": operation, "object": object}
        return self._ask("hub.allow", params, dict)

    def resolve(self, name: str) -> Any:
        """The end points of what the manifest requires under this name."""
        return self._ask("resource.resolve", {"name": name}, dict)

    def unavailable(self, reason: str = "") -> Any:
        """Take no calls for now."""
        return self._ask("component.unavailable", {"reason": reason}, _nothing)

    def available(self) -> Any:
        """Take calls again."""
        return self._ask("component.available", {}, _nothing)

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Write a structured record; `level` is debug, info, warning or error."""
        self._notify("log.write", {"message": message, "level": level, "fields": fields})


def _nothing(_answer: Any) -> None:
    return None


def _then(steps: Steps, convert: Callable[[Any], Any]) -> Steps:
    return convert((yield from steps))


def _letters(group: str, messages: tuple[str, ...]) -> dict[str, Any]:
    return {"group": group, "messages": list(messages), "all": not messages}
