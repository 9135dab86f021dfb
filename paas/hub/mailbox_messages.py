"""Messages about durable mailboxes: numbers 113 to 117 of the hub's block.

A mailbox keeps the messages that are cast to a group until a member has done them (mailbox.py).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from paas.hub.messages import empty_list, empty_map
from paas.wire.registry import Message, Params, method


class ConfigureGroup(Params, frozen=True, kw_only=True):
    """Give a group a durable mailbox, change its settings, or take it away (`none`).

    A message is tried `attempts` times, with `backoff_s` before the second attempt and twice as
    long before each further one; a member has `timeout_s` for its answer.  `ordered`: messages of
    one sender one after the other.  `in_flight`: messages that members work on at the same time.
    """

    group: str
    mailbox: Literal["durable", "none"]
    attempts: int = 5
    backoff_s: float = 1.0
    messages_max: int = 10_000
    bytes_max: int = 4 << 20
    ordered: bool = True
    timeout_s: float = 30.0
    in_flight: int = 16


class GroupQuery(Params, frozen=True, kw_only=True):
    """Describe a group and its mailbox; without a name, all groups that have a mailbox."""

    group: str = ""


class Mailbox(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A mailbox: its settings, what is in it, and counts since it exists.

    `primary` is the node that delivers; `oldest` the time (seconds since the Unix epoch) when the
    oldest message that waits was accepted, 0 if none waits.
    """

    attempts: int
    backoff_s: float
    messages_max: int
    bytes_max: int
    ordered: bool
    timeout_s: float
    in_flight: int
    primary: str
    waiting: int
    waiting_bytes: int
    oldest: float
    dead: int
    dead_bytes: int
    accepted: int
    acknowledged: int
    died: int
    discarded: int
    dropped: int


class GroupInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A group: how many members it has, and its mailbox if it has one."""

    group: str
    members: int
    mailbox: Mailbox | None


class GroupInfos(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Groups by name.  `stale_s`, if there: no leader was heard for so long."""

    groups: list[GroupInfo]
    stale_s: float | msgspec.UnsetType = msgspec.UNSET


class DeadLetters(Params, frozen=True, kw_only=True):
    """List the dead letters of a group's mailbox, the oldest first, after number `after`."""

    group: str
    after: int = 0
    limit: int = 100


class DeadLetter(Message, frozen=True, kw_only=True, omit_defaults=False, rename={"from_": "from"}):
    """A message that no member has done, and why; `component` had it last.

    `accepted` and `died` are in seconds since the Unix epoch.
    """

    number: int
    message: str
    from_: str
    operation: str
    object: str
    inputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)
    attempts: int
    reason: str
    component: str
    accepted: float
    died: float


class DeadLettersResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Some dead letters, and how many there are in all."""

    letters: list[DeadLetter]
    dead: int


class Redeliver(Params, frozen=True, kw_only=True):
    """Let dead letters wait again, as if just cast: those with these ids, or `all`."""

    group: str
    messages: list[str] = []
    all: bool = False


class Redelivered(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How many wait again, and how many are dead still (there may be no room for all)."""

    redelivered: int
    dead: int


class Discard(Params, frozen=True, kw_only=True):
    """Forget dead letters: those with these ids, or `all`."""

    group: str
    messages: list[str] = []
    all: bool = False


class Discarded(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How many were forgotten, and how many are dead still."""

    discarded: int
    dead: int


CONFIGURE_GROUP = method(113, "hub.configure_group", ConfigureGroup, GroupInfo)
GROUP = method(114, "hub.group", GroupQuery, GroupInfos)
DEAD_LETTERS = method(115, "hub.dead_letters", DeadLetters, DeadLettersResult)
REDELIVER = method(116, "hub.redeliver", Redeliver, Redelivered)
DISCARD = method(117, "hub.discard", Discard, Discarded)
