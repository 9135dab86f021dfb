"""May another hub deliver this message of a durable mailbox to a component here?

    hub.forward {message, kept: {group, epoch}} ── from node N ──> is N the primary of the group,
                                                    since that epoch, as the replica here knows?

What a hub forwards for a component of its own node is judged by where that component lives
(authorisation.py).  A message of a mailbox comes from the mailbox's primary, wherever its sender
lives, so the primary is believed about the sender; hence nobody else may mark a message so.  The
receiver must be a member of the group: being the primary of one group opens no way to others.

The two replicas need not be equally far.  Who is, or may be, the primary by another one is
answered `not-available`, which is no attempt (mailbox_keeper.py): it is tried again soon, by a
primary that has been overtaken until it hears of that.  Whoever cannot be the primary is `denied`.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.hub.mailbox import MailboxState, virtual_node_of
from paas.hub.messages import Forward


class Ring(Protocol):
    """Who decides about a virtual node, and since when."""

    def primary(self, number: int, /) -> str | None: ...

    def epoch(self, number: int, /) -> int: ...


class Groups(Protocol):
    def groups_of(self, component: str, /) -> list[str]: ...


class Claims(Protocol):
    def check(self, node: str, message: Forward) -> None:
        """Raises `denied` or `not-available`."""
        ...


class MailboxClaims:
    """See the module's text."""

    def __init__(self, state: MailboxState, groups: Groups, ring: Ring) -> None:
        self._state = state
        self._groups = groups
        self._ring = ring

    def check(self, node: str, message: Forward) -> None:
        """Is `node`, whose hub has sent this, who it says?  Raises `denied`, `not-available`."""
        claim = message.kept
        if isinstance(claim, msgspec.UnsetType):
            raise _denied(node, "a mailbox that it does not name")
        number = virtual_node_of(claim.group)
        primary, epoch = self._ring.primary(number), self._ring.epoch(number)
        if claim.epoch != epoch:
            text = f"node {node} delivers for group {claim.group!r} by another state of the ring"
            raise PlatformError("not-available", text, component=message.component)
        if primary != node:
            raise _denied(node, f"group {claim.group!r}, whose primary is {primary}")
        member = claim.group in self._groups.groups_of(message.component)
        if self._state.box(claim.group) is None or not member:
            text = f"group {claim.group!r} has no mailbox here, or no such member, or not yet"
            raise PlatformError("not-available", text, component=message.component)


class NoMailboxes:
    """A hub that knows of no mailboxes takes nothing of any."""

    def check(self, node: str, message: Forward) -> None:
        raise _denied(node, "a mailbox, and there are none")


def _denied(node: str, what: str) -> PlatformError:
    return PlatformError("denied", f"the hub of {node} delivers for {what}")
