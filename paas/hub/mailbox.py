"""Durable mailboxes in the cluster state (section "mailboxes"): accepted messages of groups.

    hub.cast ── PutMessages ──> Box of the group ── AckMessages, FailMessage <── the group's primary

A group has a mailbox because an operator configured it, or because a type that declares it was
registered; it has one whether or not it has members.  Equal declarations agree, others are a
conflict: two types cannot mean different things by one group.

The primary of a mailbox is the primary of the group's virtual node (ring_state.py), which the
group's name decides.  It alone says what became of a delivery: whoever is not the primary, or was
it under another epoch, is refused with `conflict` and changes nothing.  Casting may be proposed by
any hub.

Invariants of one mailbox: mailbox_box.py.  Of all: at most DURABLE_MAILBOXES_MAX, and together at
most DURABLE_TOTAL_BYTES_MAX; a mailbox is not taken away while messages wait or are dead in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.base.ids import VIRTUAL_NODE_BITS
from paas.controller.messages import TypeRegistered
from paas.hub import limits
from paas.hub.mailbox_box import Box, size_of
from paas.hub.mailbox_commands import (
    AckMessages,
    ConfigureGroup,
    DiscardMessages,
    FailMessage,
    MailboxChanged,
    MessagesWaiting,
    NewMessage,
    PutMessages,
    RedeliverMessages,
    Settings,
)
from paas.raft.machine import Context

DURABLE = "durable"


def virtual_node_of(group: str) -> int:
    """Where on the ring a group is."""
    digest = hashlib.sha256(b"group:" + group.encode()).digest()
    return int.from_bytes(digest[:2], "big") >> (16 - VIRTUAL_NODE_BITS)


class MailboxState:
    """See the module's text."""

    name = "mailboxes"
    hears = (TypeRegistered,)

    def __init__(self) -> None:
        self._boxes: dict[str, Box] = {}
        self.commands: Mapping[Any, Any] = {
            ConfigureGroup: self._configure,
            PutMessages: self._put,
            AckMessages: self._acknowledge,
            FailMessage: self._fail,
            RedeliverMessages: self._redeliver,
            DiscardMessages: self._discard,
        }

    # -- what others read ------------------------------------------------------------------------

    def box(self, group: str) -> Box | None:
        return self._boxes.get(group)

    def boxes(self) -> Iterator[Box]:
        """All mailboxes, by the names of their groups."""
        for group in sorted(self._boxes):
            yield self._boxes[group]

    def require(self, group: str) -> Box:
        """Raises `no-such-target` for a group without a mailbox."""
        box = self._boxes.get(group)
        if box is None:
            raise PlatformError(
                "no-such-target",
                f"group {group!r} has no durable mailbox",
                hint="list them: paas mailbox list",
            )
        return box

    @property
    def bytes(self) -> int:
        return sum(box.bytes for box in self._boxes.values())

    def check_declared(self, groups: Mapping[str, Any]) -> None:
        """May a type with these declarations be registered?  Raises `conflict`."""
        declared = [(group, settings_of(entry)) for group, entry in groups.items()]
        new = 0
        for group, settings in declared:
            box = self._boxes.get(group)
            if box is None:
                new += settings is not None
            elif box.settings != settings:
                raise PlatformError(
                    "conflict",
                    f"group {group!r} is configured otherwise already",
                    hint=f"compare: paas mailbox show {group}",
                    group=group,
                )
        self._check_room(new)

    # -- configuring -----------------------------------------------------------------------------

    def _check_room(self, new: int) -> None:
        if new and len(self._boxes) + new > limits.DURABLE_MAILBOXES_MAX:
            raise PlatformError(
                "limit-exceeded", f"{len(self._boxes)} groups have a durable mailbox already"
            )

    def _configure(self, cmd: ConfigureGroup, ctx: Context) -> dict[str, Any]:
        box = self._boxes.get(cmd.group)
        if cmd.settings is None:
            self._remove(cmd.group, box, ctx)
        elif box is None:
            self._check_room(1)
            self._open(cmd.group, cmd.settings, ctx)
        elif box.settings != cmd.settings:
            if box.waiting and box.settings.ordered != cmd.settings.ordered:
                raise PlatformError(
                    "conflict",
                    f"{len(box.waiting)} messages wait in the mailbox of group {cmd.group!r}: "
                    "whether they are ordered cannot change now",
                )
            box.settings = cmd.settings
            ctx.emit(MailboxChanged(group=cmd.group))
        return {}

    def _open(self, group: str, settings: Settings, ctx: Context) -> None:
        self._boxes[group] = Box(group, settings)
        ctx.emit(MailboxChanged(group=group))

    def _remove(self, group: str, box: Box | None, ctx: Context) -> None:
        if box is None:
            return
        if box.waiting or box.dead:
            raise PlatformError(
                "conflict",
                f"{len(box.waiting)} messages wait and {len(box.dead)} are dead in the mailbox of "
                f"group {group!r}",
                hint=f"let them be delivered, then: paas mailbox discard {group} --all",
            )
        del self._boxes[group]
        ctx.emit(MailboxChanged(group=group))

    def react(self, event: Any, ctx: Context) -> None:
        """A type was registered: its groups get the mailboxes that it declares."""
        if not isinstance(event, TypeRegistered):
            return
        kind = ctx.sections["controller"].types.resolve(event.type)
        for group, entry in sorted(kind.manifest.get("groups", {}).items()):
            settings = settings_of(entry)
            if settings is not None and group not in self._boxes:
                self._open(group, settings, ctx)

    # -- messages --------------------------------------------------------------------------------

    def _put(self, cmd: PutMessages, ctx: Context) -> dict[str, Any]:
        """Ids that nobody gave are `<index>.<place>`; `refused` tells place, code and text."""
        refused: list[list[Any]] = []
        accepted: dict[str, list[int]] = {}
        total = self.bytes
        for place, message in enumerate(cmd.messages):
            box = self._boxes.get(message.group)
            if box is not None and message.id and box.knows(message.from_, message.id):
                continue
            size = size_of(message)
            error = self._refusal(box, message, size, total)
            if error is not None or box is None:
                assert error is not None
                refused.append([place, error.code, error.message])
                continue
            total += size
            number = box.put(message, generated_id(ctx.index, place), ctx.stamp.time_ms)
            accepted.setdefault(message.group, []).append(number)
        for group, numbers in accepted.items():
            ctx.emit(MessagesWaiting(group=group, numbers=tuple(numbers)))
        return {"index": ctx.index, "refused": refused}

    @staticmethod
    def _refusal(box: Box | None, message: NewMessage, size: int, total: int) -> Any:
        if box is None:
            text = f"group {message.group!r} has no durable mailbox any more"
            return PlatformError("not-available", text)
        if size > limits.DURABLE_MESSAGE_BYTES_MAX + limits.DURABLE_OVERHEAD_BYTES:
            return too_large(size)
        if total + size > limits.DURABLE_TOTAL_BYTES_MAX:
            text = f"all mailboxes of the cluster hold {total} bytes"
            return PlatformError("limit-exceeded", text)
        return box.refusal(size)

    def _acknowledge(self, cmd: AckMessages, ctx: Context) -> dict[str, Any]:
        box = self._of_primary(cmd.group, cmd.by, cmd.ring_epoch, ctx)
        return {"acknowledged": box.acknowledge(cmd.numbers)}

    def _fail(self, cmd: FailMessage, ctx: Context) -> dict[str, Any]:
        box = self._of_primary(cmd.group, cmd.by, cmd.ring_epoch, ctx)
        return box.fail(cmd, ctx.stamp.time_ms)

    def _of_primary(self, group: str, by: str, epoch: int, ctx: Context) -> Box:
        """The mailbox, if whoever says so is its primary now."""
        ring = ctx.sections.get("ring")
        number = virtual_node_of(group)
        if ring is not None and (ring.primary(number) != by or ring.epoch(number) != epoch):
            raise PlatformError(
                "conflict", f"node {by} is not the primary of group {group!r} any more"
            )
        return self.require(group)

    # -- dead letters ----------------------------------------------------------------------------

    def _redeliver(self, cmd: RedeliverMessages, ctx: Context) -> dict[str, Any]:
        box = self.require(cmd.group)
        numbers = box.redeliver(cmd.ids)
        if numbers:
            ctx.emit(MessagesWaiting(group=cmd.group, numbers=tuple(numbers)))
        return {"redelivered": len(numbers), "dead": len(box.dead)}

    def _discard(self, cmd: DiscardMessages, _ctx: Context) -> dict[str, Any]:
        box = self.require(cmd.group)
        return {"discarded": box.discard(cmd.ids), "dead": len(box.dead)}

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return [box.snapshot() for box in self.boxes()]

    def restore(self, plain: Any) -> None:
        boxes = [Box.restored(item) for item in plain]
        self._boxes = {box.group: box for box in boxes}


def generated_id(index: int, place: int) -> str:
    """The id of a message whose sender gave none: where in the log it was accepted."""
    return f"{index:x}.{place:x}"


def too_large(size: int) -> PlatformError:
    """The refusal of a message that no mailbox takes."""
    return PlatformError(
        "limit-exceeded",
        f"a message of {size} bytes is too large for a durable mailbox, which takes "
        f"{limits.DURABLE_MESSAGE_BYTES_MAX}",
        hint="store large values as blobs and send their digests",
    )


def settings_of(entry: Any) -> Settings | None:
    """What a manifest's table `[groups.<name>]`, in canonical form, asks for; None: no mailbox."""
    if entry["mailbox"] != DURABLE:
        return None
    return msgspec.convert(
        {
            "attempts": entry["attempts"],
            "backoff_s": entry["backoff"],
            "messages_max": entry["messages_max"],
            "bytes_max": entry["bytes_max"],
            "ordered": entry["ordered"],
            "timeout_s": entry["timeout"],
            "in_flight": entry["in_flight"],
        },
        Settings,
    )
