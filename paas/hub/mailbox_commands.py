"""Commands and events of durable mailboxes (section "mailboxes", mailbox.py).

    PutMessages ──> waiting ── AckMessages ──> gone
                      │  ^
          FailMessage │  │ RedeliverMessages
                      v  │
                    dead letters ── DiscardMessages, or the oldest when there are too many ──> gone

What a primary says about a delivery (AckMessages, FailMessage) carries who it is and the ring's
epoch under which it delivered; a primary of the past is refused with `conflict`.  Each command may
be repeated: an acknowledged message stays gone, and a failure names the attempt that it is about.
"""

from __future__ import annotations

import msgspec

from paas.raft.command import command


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a group's mailbox works.  See `hub.configure_group`."""

    attempts: int = 5
    backoff_s: float = 1.0
    messages_max: int = 10_000
    bytes_max: int = 4 << 20
    ordered: bool = True
    timeout_s: float = 30.0
    in_flight: int = 16


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What a sender casts.  `id` is the sender's own, or empty: then one is made."""

    group: str
    operation: str
    object: str = ""
    inputs: bytes = b""
    attachments: bytes = b""
    from_: str = ""
    id: str = ""
    trace: str = ""


@command(140)
class ConfigureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group has a durable mailbox with these settings; None: it has none any more."""

    group: str
    settings: Settings | None


@command(141)
class PutMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Messages for mailboxes; each is accepted or refused by itself."""

    messages: list[NewMessage]


@command(142)
class AckMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Members have done what these messages of a mailbox ask for."""

    group: str
    numbers: list[int]
    by: str
    ring_epoch: int


@command(143)
class FailMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt has failed; with `rejected`, or after the last one, the message is dead.

    `attempt` counts from one; a failure of another attempt than the next is known already.
    """

    group: str
    number: int
    attempt: int
    reason: str
    by: str
    ring_epoch: int
    member: str = ""
    rejected: bool = False


@command(144)
class RedeliverMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters wait again, as if they had just been cast; `ids` None: all of them."""

    group: str
    ids: list[str] | None


@command(145)
class DiscardMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Forget dead letters; `ids` None: all of them."""

    group: str
    ids: list[str] | None


class MessagesWaiting(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: these messages of a mailbox wait for delivery now."""

    group: str
    numbers: tuple[int, ...]


class MailboxChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a group has a mailbox now, or another one, or none any more."""

    group: str
