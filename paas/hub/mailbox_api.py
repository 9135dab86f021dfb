"""Durable mailboxes as a part of the hub: settings, contents, dead letters, and who delivers.

`MailboxPart` joins what belongs together: the postman (casts come in), the keepers (messages go
out), and the requests of operators.  Reads come from this replica's state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.hub import limits
from paas.hub import mailbox_messages as messages
from paas.hub.mailbox import MailboxState, virtual_node_of
from paas.hub.mailbox_box import Box, Stored
from paas.hub.mailbox_claims import MailboxClaims
from paas.hub.mailbox_commands import (
    ConfigureGroup,
    DiscardMessages,
    RedeliverMessages,
    Settings,
)
from paas.hub.mailbox_keeper import Surroundings
from paas.hub.mailboxes import Mailboxes, Ring
from paas.hub.postman import Postman
from paas.hub.state import GroupState
from paas.rpc.dispatch import Context, Dispatcher, Rule

_OPERATOR = Rule(frozenset({"operator"}))
_BOTH = Rule(frozenset({"operator", "component"}))

POLICY: Mapping[str, Rule] = {
    "hub.configure_group": _OPERATOR,
    "hub.group": _BOTH,
    "hub.dead_letters": _OPERATOR,
    "hub.redeliver": _OPERATOR,
    "hub.discard": _OPERATOR,
}

IDS_MAX = 100
"""Dead letters that one request may name: their ids go into one command."""

T = TypeVar("T", int, float)


class MailboxPart:
    """See the module's text.  `staleness` as in `hub.agent.Hub`."""

    def __init__(
        self,
        around: Surroundings,
        groups: GroupState,
        ring: Ring,
        *,
        on_bug: Callable[[str, Exception], None],
        staleness: Callable[[], float | None],
    ) -> None:
        self._state: MailboxState = around.state
        self._log = around.log
        self._groups = groups
        self._ring = ring
        self._staleness = staleness
        self.postman = Postman(around.state, around.log)
        self.mailboxes = Mailboxes(around, ring, on_bug)
        self.claims = MailboxClaims(around.state, groups, ring)

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.CONFIGURE_GROUP, self._configure)
        dispatcher.plain(messages.GROUP, self._describe)
        dispatcher.plain(messages.DEAD_LETTERS, self._dead_letters)
        dispatcher.task(messages.REDELIVER, self._redeliver)
        dispatcher.task(messages.DISCARD, self._discard)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take casts and deliver messages until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.postman.run)
            await nursery.start(self.mailboxes.run)
            task_status.started()

    # -- requests --------------------------------------------------------------------------------

    async def _configure(
        self, params: messages.ConfigureGroup, context: Context
    ) -> messages.GroupInfo:
        check_group(params.group)
        settings = _settings(params) if params.mailbox == "durable" else None
        command = ConfigureGroup(group=params.group, settings=settings)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return self._info(params.group)

    def _describe(self, params: messages.GroupQuery, _context: Context) -> messages.GroupInfos:
        if params.group:
            check_group(params.group)
            if not self._groups.has(params.group) and self._state.box(params.group) is None:
                raise PlatformError(
                    "no-such-target",
                    f"no group is called {params.group!r}",
                    hint="list them: paas groups; paas mailbox list",
                )
            names = [params.group]
        else:
            names = [box.group for box in self._state.boxes()]
        stale_s = self._staleness()
        return messages.GroupInfos(
            groups=[self._info(name) for name in names],
            stale_s=msgspec.UNSET if stale_s is None else round(stale_s, 3),
        )

    def _info(self, group: str) -> messages.GroupInfo:
        box = self._state.box(group)
        return messages.GroupInfo(
            group=group,
            members=len(self._groups.members(group)),
            mailbox=None if box is None else self._mailbox(box),
        )

    def _mailbox(self, box: Box) -> messages.Mailbox:
        oldest = next(iter(box.waiting.values()), None)
        return messages.Mailbox(
            **msgspec.structs.asdict(box.settings),
            **msgspec.structs.asdict(box.counts),
            primary=self._ring.primary(virtual_node_of(box.group)) or "",
            waiting=len(box.waiting),
            waiting_bytes=box.waiting_bytes,
            oldest=0.0 if oldest is None else oldest.time_ms / 1000,
            dead=len(box.dead),
            dead_bytes=box.dead_bytes,
        )

    def _dead_letters(
        self, params: messages.DeadLetters, _context: Context
    ) -> messages.DeadLettersResult:
        box = self._state.require(params.group)
        limit = _within("limit", params.limit, 1, limits.DEAD_LETTERS_LISTED_MAX)
        later = [stored for number, stored in box.dead.items() if number > params.after]
        later.sort(key=lambda stored: stored.number)
        return messages.DeadLettersResult(
            letters=[_letter(stored) for stored in later[:limit]], dead=len(box.dead)
        )

    async def _redeliver(
        self, params: messages.Redeliver, context: Context
    ) -> messages.Redelivered:
        command = RedeliverMessages(group=params.group, ids=_ids(params.messages, params.all))
        result = await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.Redelivered(**result)

    async def _discard(self, params: messages.Discard, context: Context) -> messages.Discarded:
        command = DiscardMessages(group=params.group, ids=_ids(params.messages, params.all))
        result = await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.Discarded(**result)

    def statistics(self) -> dict[str, Any]:
        return {**self.mailboxes.statistics(), "casts": self.postman.statistics()}


def check_group(group: str) -> None:
    """Raise `invalid` for what is no name of a group."""
    if not 0 < len(group) <= 128 or not group.isprintable() or ":" in group:
        expected = "a group name has 1 to 128 printable characters and no colon"
        raise invalid("group", expected, param="group")


def _settings(params: messages.ConfigureGroup) -> Settings:
    return Settings(
        attempts=_within("attempts", params.attempts, 1, limits.DURABLE_ATTEMPTS_MAX),
        backoff_s=_within("backoff_s", params.backoff_s, 0.0, limits.DURABLE_BACKOFF_S_MAX),
        messages_max=_within("messages_max", params.messages_max, 1, limits.DURABLE_MESSAGES_MAX),
        bytes_max=_within(
            "bytes_max", params.bytes_max, limits.DURABLE_BYTES_MIN, limits.DURABLE_BYTES_MAX
        ),
        ordered=params.ordered,
        timeout_s=_within("timeout_s", params.timeout_s, 0.1, limits.DURABLE_TIMEOUT_S_MAX),
        in_flight=_within("in_flight", params.in_flight, 1, limits.DURABLE_IN_FLIGHT_MAX),
    )


def _within(field: str, value: T, lowest: T, highest: T) -> T:
    if not lowest <= value <= highest:
        raise invalid(field, f"expected from {lowest:g} to {highest:g}", param=field)
    return value


def _ids(ids: list[str], everything: bool) -> list[str] | None:
    """None: all."""
    if everything == bool(ids):
        raise invalid("messages", "give either ids of dead letters, or all", param="messages")
    if len(ids) > IDS_MAX or any(len(one) > limits.DURABLE_ID_LENGTH_MAX for one in ids):
        raise invalid("messages", f"expected at most {IDS_MAX} ids", param="messages")
    return None if everything else ids


def _letter(stored: Stored) -> messages.DeadLetter:
    return messages.DeadLetter(
        number=stored.number,
        message=stored.id,
        from_=stored.sender,
        operation=stored.operation,
        object=stored.object,
        inputs=msgspec.Raw(stored.inputs),
        attachments=msgspec.Raw(stored.attachments),
        attempts=stored.attempts,
        reason=stored.reason,
        component=stored.member,
        accepted=stored.time_ms / 1000,
        died=stored.died_ms / 1000,
    )
