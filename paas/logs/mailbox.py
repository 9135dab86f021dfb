"""The mailbox in front of the log store: an actor, so that writing records waits its turn.

Batches are kept one after the other; between two of them the hub's other work goes on.  A harness
has one batch on its way and waits for the answer, so the mailbox holds at most one a component, and
a flood of one component delays no other's call.
"""

from __future__ import annotations

from paas.base.actor import Actor, Full
from paas.harness.messages import Records
from paas.logs import limits
from paas.logs.agent import Logs

Message = tuple[str, Records]


class LogMailbox:
    """Implements `hub.client.RecordSink`; `actor.run` is for a supervisor."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self.actor: Actor[Message] = Actor(
            "logs", self._keep, mailbox_max=limits.BATCHES_WAITING_MAX, when_full=Full.BLOCK
        )

    async def deliver(self, component: str, batch: Records) -> None:
        """Returns when the batch is kept; raises what `Actor.ask` raises."""
        await self.actor.ask((component, batch))

    async def _keep(self, message: Message) -> None:
        component, batch = message
        self._logs.receive(component, batch)
