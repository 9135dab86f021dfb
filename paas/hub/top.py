"""`hub.top`: what the hubs are doing: queues, rates, who is slow, what was refused and why (io).

    operator ── hub.top ──> this hub ── hub.top {local} ──> the hubs of the other nodes
                              └── its own figures + Rates <── once a second

Each hub says what it knows of its own node; the one that is asked puts the answers together, sorts
the components and cuts the list.  A node that does not answer within `TOP_TIMEOUT_S` is named in
`missing`.  Figures are informative; nothing is kept but the rates of the last ten seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock
from paas.hub import limits
from paas.hub.figures import is_slow
from paas.hub.messages import Member
from paas.hub.rates import PERIOD_S, Rates
from paas.hub.router import Router
from paas.hub.routes import Attachment, Links
from paas.hub.top_messages import TOP, Top, TopComponent, TopNode, TopResult
from paas.rpc.dispatch import Context

TOTALS = ("calls", "casts", "forwards", "refused")
SORTS: dict[str, Callable[[TopComponent], Any]] = {
    "waiting": lambda c: -c.waiting,
    "bytes": lambda c: -c.queued_bytes,
    "rate": lambda c: -c.rate_1s,
    "delivered": lambda c: -c.delivered,
    "refused": lambda c: -c.refused,
    "name": lambda c: c.name,
}


class Members(Protocol):
    """Names of components."""

    def member(self, component: str) -> Member: ...


class TopBoard:
    """The handler of `hub.top`, and what it needs to remember.

    `parts` are figures of other parts of the hub (watches, mailboxes), by name; `nodes` lists the
    nodes of the cluster, so that one that cannot be reached is missed.
    """

    def __init__(
        self, *, node: str, router: Router, members: Members, links: Links, clock: Clock
    ) -> None:
        self._node = node
        self._router = router
        self._members = members
        self._links = links
        self._clock = clock
        self._rates = Rates(clock.monotonic_s())
        self._before = dict.fromkeys(TOTALS, 0)
        self._looked: dict[str, tuple[float, float]] = {}
        """When a component was shown last, and the processor time that it had used."""
        self.usage: Callable[[list[str]], Awaitable[dict[str, dict[str, Any]]]] | None = None
        """What the containers of these components use."""
        self.parts: dict[str, Callable[[], dict[str, Any]]] = {}
        self.nodes: Callable[[], list[str]] = links.connected

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sample until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(PERIOD_S)
            self.sample()

    def sample(self) -> None:
        self._rates.sample(self._clock.monotonic_s(), list(self._growths()))

    def _growths(self) -> Iterator[tuple[str, int]]:
        for attachment in self._router.attachments():
            if attachment.delivered != attachment.sampled:
                yield attachment.component, attachment.delivered - attachment.sampled
                attachment.sampled = attachment.delivered
        for name in TOTALS:
            count = getattr(self._router, name)
            if count != self._before[name]:
                yield name, count - self._before[name]
                self._before[name] = count

    # -- answers ---------------------------------------------------------------------------------

    async def top(self, params: Top, context: Context) -> TopResult:
        if params.sort not in SORTS:
            raise invalid("sort", f"expected one of {', '.join(SORTS)}", param="sort")
        if not 0 <= params.limit <= limits.TOP_COMPONENTS_MAX:
            expected = f"expected 0 to {limits.TOP_COMPONENTS_MAX}"
            raise invalid("limit", expected, param="limit")
        found = {self._node: await self._with_usage(self.here(params))}
        wanted = [] if params.local else [n for n in self.nodes() if n != self._node]
        timeout_s = min(limits.TOP_TIMEOUT_S, context.timeout_s * 0.8)
        async with trio.open_nursery() as nursery:
            for node in wanted:
                nursery.start_soon(self._ask, node, params, timeout_s, found)
        components = [c for node in sorted(found) for c in found[node].components]
        return TopResult(
            nodes=[n for node in sorted(found) for n in found[node].nodes],
            components=sorted(components, key=SORTS[params.sort])[: params.limit],
            missing=sorted(set(wanted) - found.keys()),
        )

    async def _with_usage(self, shown: TopResult) -> TopResult:
        """With what the containers use, where that is known soon enough."""
        if self.usage is None or not shown.components:
            return shown
        used: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(PlatformError), trio.move_on_after(limits.TOP_USAGE_S):
            used = await self.usage([c.component for c in shown.components])
        now_s = self._clock.monotonic_s()
        components = [
            msgspec.structs.replace(
                c, usage=self._measured(c.component, used.get(c.component, {}), now_s)
            )
            for c in shown.components
        ]
        self._looked = {c: figures for c, figures in self._looked.items() if c in used}
        return msgspec.structs.replace(shown, components=components)

    def _measured(self, component: str, figures: dict[str, Any], now_s: float) -> dict[str, float]:
        """The figures, and cores since this component was last looked at."""
        measured = {name: float(value) for name, value in figures.items()}
        if "cpu_ms" in measured:
            before_s, before_ms = self._looked.get(component, (now_s, 0.0))
            self._looked[component] = (now_s, measured["cpu_ms"])
            if now_s > before_s and measured["cpu_ms"] >= before_ms:
                measured["cpu"] = (measured["cpu_ms"] - before_ms) / 1e3 / (now_s - before_s)
        return measured

    async def _ask(
        self, node: str, params: Top, timeout_s: float, found: dict[str, TopResult]
    ) -> None:
        peer = self._links.peer(node)
        if peer is None:
            return
        question = Top(sort=params.sort, limit=params.limit, local=True, timeout=timeout_s)
        with contextlib.suppress(PlatformError):  # it is missed in the answer
            found[node] = await peer.call(TOP, question, timeout_s=timeout_s)

    def here(self, params: Top) -> TopResult:
        """What this hub knows of its own node."""
        attachments = list(self._router.attachments())
        components = sorted(map(self._component, attachments), key=SORTS[params.sort])
        return TopResult(
            nodes=[self._of_node(attachments)], components=components[: params.limit], missing=[]
        )

    def _of_node(self, attachments: list[Attachment]) -> TopNode:
        rates = {name: self._rates.of(name) for name in TOTALS}
        return TopNode(
            node=self._node,
            attached=len(attachments),
            waiting=sum(a.waiting for a in attachments),
            queued_bytes=sum(a.peer.link.queued_bytes for a in attachments),
            links={
                n: p.link.queued_bytes
                for n in self._links.connected()
                if (p := self._links.peer(n))
            },
            rates_1s={name: rate[0] for name, rate in rates.items()},
            rates_10s={name: rate[1] for name, rate in rates.items()},
            refused=dict(sorted(self._router.refusals.items())),
            slow=[a.component for a in attachments if is_slow(a)][: limits.TOP_SLOW_MAX],
            parts={name: part() for name, part in self.parts.items()},
        )

    def _component(self, attachment: Attachment) -> TopComponent:
        try:
            name = self._members.member(attachment.component).name
        except PlatformError:
            name = ""
        short, long = self._rates.of(attachment.component)
        return TopComponent(
            component=attachment.component,
            name=name,
            node=self._node,
            ready=attachment.ready,
            waiting=attachment.waiting,
            queued_bytes=attachment.peer.link.queued_bytes,
            delivered=attachment.delivered,
            refused=attachment.refused,
            rate_1s=short,
            rate_10s=long,
            slow=is_slow(attachment),
        )
