"""Durable mailboxes in a simulated cluster: clients and components cast, members do as they like.

    client, component ── hub.cast ──> log: PutMessages ── primary ──> member: done, fails, rejects,
                                        │                             dies, or is slow
                                        └── AckMessages, FailMessage <── what the primary made of it

Two mailboxes, one that keeps the order of its senders and one that does not.  What is judged:

  letter-known   who is told "accepted" has his message in the log; nothing else is delivered
  letter-order   of one sender, messages are delivered for the first time in the order of the log
  letter-done    the log says of no message that it was done, unless a member has done it
  letter-end     at the end every message was done, or is a dead letter with a reason

A member that does something and dies before its answer arrives does it again elsewhere: that is
what "at least once" means, and is counted (`seen-letter-again`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.controller import messages
from paas.harness.messages import Invoke, InvokeResult
from paas.hub.mailbox_commands import AckMessages, MessagesWaiting, PutMessages
from paas.hub.mailbox_messages import CONFIGURE_GROUP, ConfigureGroup
from paas.hub.messages import CAST, Cast, CastResult
from paas.sim.platform import limits
from paas.wire import codec
from paas.wire.registry import decode

if TYPE_CHECKING:
    from paas.raft.machine import Applied
    from paas.sim.platform.clients import Client
    from paas.sim.platform.cluster import Cluster
    from paas.sim.platform.components import Component
    from paas.sim.platform.machine import HubLife

BOXES = ("letters", "parcels")
"""With the order of senders, and without."""

Key = tuple[str, str, str]
"""Group, sender, id."""


class _Letter:
    """One message that the log has accepted."""

    __slots__ = ("delivered", "done", "key", "number")

    def __init__(self, key: Key, number: int) -> None:
        self.key = key
        self.number = number
        self.delivered = 0
        self.done = False


class Letters:
    """See the module's text.  `run` it; `witness` and `oracle` tell it what happens."""

    def __init__(self, cluster: Cluster) -> None:
        self.stopped = False
        self._cluster = cluster
        self._require = cluster.invariants.require
        # Of its own, so that what else happens in a seed does not depend on letters' chances.
        self._random = random.Random(cluster.world.random.getrandbits(64))
        self._by_key: dict[Key, _Letter] = {}
        self._by_number: dict[tuple[str, int], _Letter] = {}
        self._newest: dict[tuple[str, str], int] = {}
        self._written = 0
        cluster.witness.letters = self
        cluster.oracle.on_command = self.applied

    # -- who writes ------------------------------------------------------------------------------

    async def run(self, client: Client) -> None:
        """An operator who sees to mailboxes and members, and writes."""
        for group in BOXES:
            await self._patiently(client, CONFIGURE_GROUP, self._settings(group))
        wanted = 0
        while not self.stopped:
            members = self._cluster.oracle.groups.get(BOXES[0], {})
            if len(members) < limits.READERS_WANTED:
                wanted += 1
                await self._hire(client, wanted)
            await trio.sleep(self._random.expovariate(1 / limits.LETTER_EVERY_S))
            params = self._cast(self._random.choice(BOXES))
            for _attempt in range(3):  # the same id: accepted once, however often it is cast
                try:
                    told = await client.ask(CAST, params)
                except PlatformError as exc:
                    self._cluster.world.count(f"letter-{exc.code}")
                    await trio.sleep(self._random.uniform(0.0, 2.0))
                else:
                    self._accepted("", params, told)
                    break

    @staticmethod
    def _settings(group: str) -> ConfigureGroup:
        return ConfigureGroup(
            group=group,
            mailbox="durable",
            attempts=4,
            backoff_s=0.3,
            timeout_s=3.0,
            ordered=group == BOXES[0],
            timeout=5.0,
        )

    async def _patiently(self, client: Client, method: Any, params: Any) -> None:
        while True:
            try:
                await client.ask(method, params)
                return
            except PlatformError:
                await trio.sleep(0.5)

    async def _hire(self, client: Client, number: int) -> None:
        """One more member, if that can be done now."""
        params = messages.Create(
            type=self._random.choice(("steady@1.0.0", "worker@1.0.0", "crasher@1.0.0")),
            groups=list(BOXES),
            wait="accepted",
            request_id=f"letters-{number}",
            timeout=5.0,
        )
        try:
            await client.ask(messages.CREATE, params)
        except PlatformError as exc:
            self._cluster.world.count(f"letter-{exc.code}")

    def write(self, me: Component, answer: Callable[[Callable[[Any], None]], Any]) -> None:
        """A component casts, a few at once; `answer` makes a callback that is called once."""
        group = self._random.choice(BOXES)
        for _ in range(self._random.randrange(1, 4)):
            params = self._cast(group)

            def told(value: Any, params: Cast = params) -> None:
                if not isinstance(value, PlatformError):
                    self._accepted(me.id, params, decode(value, CastResult))

            me.request(CAST.name, params, answer(told))

    def _cast(self, group: str) -> Cast:
        self._written += 1
        inputs = msgspec.Raw(codec.pack({"group": group}))
        name = f"l{self._written}"
        return Cast(
            target=f"group:{group}", operation="letter", inputs=inputs, id=name, timeout=5.0
        )

    def _accepted(self, sender: str, params: Cast, told: CastResult) -> None:
        key = (params.target.removeprefix("group:"), sender, params.id)
        if told.message is msgspec.UNSET:
            return  # the mailbox was not there yet: an ordinary cast to a group
        text = f"{key} was accepted, and the log does not have it"
        self._require("letter-known", key in self._by_key, text)

    # -- what the log says -----------------------------------------------------------------------

    def applied(self, command: Any, applied: Applied, states: Any) -> None:
        """A command was applied for the first time, without an error."""
        if isinstance(command, PutMessages):
            for event in applied.events:
                if not isinstance(event, MessagesWaiting):
                    continue
                box = states.mailboxes.require(event.group)
                for number in event.numbers:
                    stored = box.waiting[number]
                    self._put((event.group, stored.sender, stored.id), number)
        elif isinstance(command, AckMessages):
            for number in command.numbers:
                letter = self._by_number[command.group, number]
                text = f"{letter.key} is acknowledged, and nobody has done it"
                self._require("letter-done", letter.done, text)

    def _put(self, key: Key, number: int) -> None:
        known = self._by_key.get(key)
        text = f"{key} is accepted as {number}, and was as {known and known.number}"
        self._require("letter-known", known is None, text)
        self._by_key[key] = self._by_number[key[0], number] = _Letter(key, number)

    # -- who reads -------------------------------------------------------------------------------

    def delivered(self, me: Component, invoke: Invoke, answer: Callable[[Any], None]) -> None:
        """A member gets a letter; it answers, sooner or later or never."""
        mark = invoke.message
        assert not isinstance(mark, msgspec.UnsetType)
        group = codec.unpack(invoke.inputs)["group"]
        key = (group, invoke.from_, mark.id)
        letter = self._by_key.get(key)
        self._require(
            "letter-known", letter is not None, f"{me.key} gets {key}, unknown to the log"
        )
        assert letter is not None
        self._cluster.world.count("seen-letter" if not letter.delivered else "seen-letter-again")
        if not letter.delivered and group == BOXES[0]:
            last = self._newest.get(key[:2], 0)
            text = f"{me.key} gets {key}, {letter.number}, after {last}"
            self._require("letter-order", letter.number > last, text)
            self._newest[key[:2]] = letter.number
        letter.delivered += 1
        self._behave(me, letter, answer)

    def _behave(self, me: Component, letter: _Letter, answer: Callable[[Any], None]) -> None:
        world, chance = self._cluster.world, self._random.random()
        if self._cluster.calm:
            chance = 1.0
        if chance < 0.12:
            answer(PlatformError("failed", "not today"))
        elif chance < 0.15:
            answer(PlatformError("reject", "never"))
        elif chance < 0.18:
            letter.done = self._random.random() < 0.5  # and nobody hears of it
            me.exit("exit:1")
        elif chance < 0.2:
            world.count("seen-letter-unanswered")
        elif chance < 0.35:
            world.after(self._random.expovariate(1.0), self._do, me, letter, answer)
        else:
            self._do(me, letter, answer)

    @staticmethod
    def _do(me: Component, letter: _Letter, answer: Callable[[Any], None]) -> None:
        if me.alive:
            letter.done = True
            answer(codec.pack(InvokeResult()))

    # -- the end ---------------------------------------------------------------------------------

    def judge(self, hub: HubLife) -> None:
        """All has been well for a while.  Raises Broken."""
        for letter in self._by_key.values():
            group = letter.key[0]
            box = hub.states.mailboxes.require(group)
            what = f"{letter.key}, {letter.number}, delivered {letter.delivered} times,"
            if letter.number in box.waiting:
                empty = not self._cluster.oracle.groups.get(group)
                self._require("letter-end", empty, f"{what} waits, though there are members")
                self._cluster.world.count("letter-without-members")
            elif letter.number in box.dead:
                dead = box.dead[letter.number]
                self._require("letter-end", dead.reason, f"{what} is dead without a reason")
                self._cluster.world.count("seen-dead-letter")
            else:
                self._require("letter-end", letter.done, f"{what} has gone, and was not done")
