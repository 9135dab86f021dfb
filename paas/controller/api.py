"""The answers to the requests of the component API's part "controller" (messages.py).

Reading is answered from this replica's state, with its age where this node is cut off from the
majority.  Changing is a command of the log, and then waiting for what keepers make of it, on
whichever node they are.  A component may end and tie only what it created, and itself.

`create` chooses the nodes.  Where others filled them meanwhile the command is refused, and nodes
are chosen again, a few times.

`create` is all or nothing: if one of the components does not become available, the others are
destroyed again, and the error says which one, why, and with its last log lines.  One that the
restart policy gave up stays as `failed`, to be looked at, until it is destroyed or forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from paas.base import ids
from paas.base.errors import PlatformError, invalid
from paas.bundle.manifest import from_plain
from paas.controller import admission, commands, draining, instances, limits, messages, placing
from paas.controller.agent import DOWN, Controller
from paas.controller.figures import FigureBook
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.loads import needs_of
from paas.controller.ports import LogTail, Remote
from paas.controller.restarts import Outcome
from paas.harness.messages import TERMINATE, Terminate, TerminateResult
from paas.rpc.dispatch import Context, Dispatcher
from paas.scheduler.messages import NodeView, Request
from paas.wire.registry import Nothing, P, R

OPERATOR = "operator"


def _not_stale() -> None:
    """One node alone is always up to date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Whom the answers need beside the controller itself; callables, asked anew each time."""

    nodes: Callable[[], Sequence[NodeView]]
    groups_of: Callable[[str], list[str]]
    has_bundle: Callable[[str], bool]
    log_tail: LogTail
    cluster: Callable[[], str]
    version: str
    log_status: Callable[[], dict[str, Any]]
    hub_status: Callable[[], dict[str, Any]]
    remote: Remote | None = None
    """Other nodes' hubs; none where there is one node only."""
    staleness: Callable[[], float | None] = _not_stale
    """Seconds since this replica was last known to be up to date, if that is in doubt."""
    drain: Callable[[str], Awaitable[None]] | None = None
    """Cordon a node and mark it as being emptied."""
    url: Callable[[], str] = lambda: ""
    """Where programs outside are answered; empty where they are not."""


UNKNOWN_CODES = frozenset({"no-such-target", "no-such-type", "no-such-bundle"})
"""What an order is refused with whose object this replica has not heard of."""

Handler = Callable[[P, Context], Awaitable[R]]


class Api:
    """See the module's text."""

    def __init__(self, controller: Controller, neighbours: Neighbours) -> None:
        self._controller = controller
        self._state = controller.state
        self._log = controller.log
        self._near = neighbours
        self._figures = FigureBook(controller, neighbours.remote)

    def register(self, dispatcher: Dispatcher) -> None:
        """Put the handlers on a dispatcher."""
        dispatcher.task(messages.REGISTER_TYPE, self._caught_up(self.register_type))
        dispatcher.task(messages.UNREGISTER_TYPE, self._caught_up(self.unregister_type))
        dispatcher.plain(messages.TYPES, self.types)
        dispatcher.plain(messages.TYPE, self.type)
        dispatcher.task(messages.CREATE, self._caught_up(self.create))
        dispatcher.task(messages.TERMINATE, self._caught_up(self.terminate))
        dispatcher.task(messages.DESTROY, self._caught_up(self.destroy))
        dispatcher.task(messages.COMPONENTS, self.components)
        dispatcher.task(messages.COMPONENT, self.component)
        dispatcher.plain(messages.MONITOR, self.monitor)
        dispatcher.task(messages.LINK, self._caught_up(self.link))
        dispatcher.task(messages.UNLINK, self._caught_up(self.unlink))
        dispatcher.plain(messages.STATUS, self.status)
        dispatcher.task(messages.FIGURES, self.figures)
        dispatcher.task(messages.TERMINATE_HERE, self.terminate_here)
        dispatcher.task(messages.DRAIN_NODE, self.drain)

    def _caught_up(self, handler: Handler[P, R]) -> Handler[P, R]:
        """What an order names, and this replica does not know, may be news to it: it catches up
        with what other hubs have acknowledged, and looks again.  Raises `unavailable` if it cannot.
        """

        async def order(params: P, context: Context) -> R:
            try:
                return await handler(params, context)
            except PlatformError as error:
                if error.code not in UNKNOWN_CODES:
                    raise
            await self._log.barrier(timeout_s=context.timeout_s)
            return await handler(params, context)

        return order

    # -- types -----------------------------------------------------------------------------------

    async def register_type(
        self, params: messages.RegisterType, context: Context
    ) -> messages.TypeName:
        manifest = from_plain(params.manifest)
        if not self._near.has_bundle(params.bundle):
            raise PlatformError(
                "no-such-bundle", f"no bundle {params.bundle[:80]} is stored", bundle=params.bundle
            )
        known = self._state.types.check_new(manifest, params.bundle)
        if known is None:
            command = commands.RegisterType(
                bundle=params.bundle,
                manifest=manifest.to_plain(),
                registered_by=_caller(context) or OPERATOR,
            )
            await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.TypeName(type=manifest.type_name)

    async def unregister_type(self, params: messages.UnregisterType, context: Context) -> Nothing:
        command = commands.UnregisterType(type=params.type)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    def types(self, _params: messages.ListTypes, _context: Context) -> messages.Types:
        counts: dict[str, int] = {}
        for instance in self._state.instances:
            if not instance.ended:
                counts[instance.type] = counts.get(instance.type, 0) + 1
        kinds = sorted(self._state.types, key=lambda kind: (kind.name, kind.index))
        return messages.Types(
            types=[k.info(counts.get(k.full_name, 0)) for k in kinds],
            stale_s=self._near.staleness(),
        )

    def type(self, params: messages.DescribeType, _context: Context) -> messages.TypeInfo:
        kind = self._state.types.resolve(params.type)
        return kind.info(self._state.instances.of_type(kind.full_name))

    # -- creating --------------------------------------------------------------------------------

    async def create(self, params: messages.Create, context: Context) -> messages.Created:
        deadline = trio.current_time() + context.timeout_s
        result = await self.order_creation(params, _caller(context), deadline)
        created: list[str] = result["components"]
        if params.wait == "available":
            margin_s = min(limits.ANSWER_MARGIN_S, context.timeout_s / 10)
            try:
                await self._wait_available(created, deadline - margin_s)
            except PlatformError:
                if not result["repeated"]:
                    self._controller.soon(self._undo, created)
                raise
        return messages.Created(components=created)

    async def order_creation(
        self, params: messages.Create, caller: str | None, deadline_s: float
    ) -> dict[str, Any]:
        """Choose nodes, until a choice is still good when it is applied; wait for nothing else.

        `caller` is a component's id, or another word that no client can say; None: an operator.
        The result is `{"components": [id], "repeated": bool}`.
        """
        plans = 1
        while True:
            command = self._creation(params, caller)
            left_s = max(deadline_s - trio.current_time(), 0.0)
            try:
                result: dict[str, Any] = await self._log.propose(command, timeout_s=left_s)
            except PlatformError as error:
                if plans >= limits.CREATE_PLANS_MAX or not admission.is_out_of_date(error):
                    raise
                plans += 1
            else:
                return result

    def _creation(self, params: messages.Create, caller: str | None) -> commands.CreateInstances:
        """Check the request, and choose the nodes."""
        kind = self._state.types.resolve(params.type)
        manifest = self._state.types.manifest(kind)
        admission.check_request(params)
        links = []
        for target in params.links:
            peer = self._state.instances.resolve(target)
            self._check_owner(peer, caller)
            links.append(peer.id)
        request = Request(
            type=kind.full_name,
            needs=needs_of(manifest),
            count=params.count,
            constraints=tuple(params.constraints),
        )
        names = instances.names_for(params.name, params.count)
        nodes = placing.plan_creation(self._state, self._near.nodes(), request, names)
        return commands.CreateInstances(
            type=kind.full_name,
            nodes=nodes,
            name=params.name,
            configuration=params.configuration,
            groups=list(dict.fromkeys(params.groups)),
            links=list(dict.fromkeys(links)),
            restart=params.restart or "",
            constraints=params.constraints,
            request_id=params.request_id,
            created_by=caller or OPERATOR,
        )

    async def _wait_available(self, created: list[str], deadline_s: float) -> None:
        """Until each was available; raises `failed` or `timeout` for the first that was not."""
        for component in created:
            while True:
                instance = self._state.instances.get(component)
                if instance is None:
                    raise PlatformError("failed", f"{component[:8]} has ended", component=component)
                if instance.ready_once:
                    break
                if instance.ended or (
                    instance.state is ComponentState.DESTROYING
                    and instance.outcome is not Outcome.RESTART
                ):
                    raise self._not_available("failed", instance)
                with trio.move_on_at(deadline_s) as scope:
                    await self._controller.wait_change(component)
                if scope.cancelled_caught:
                    raise self._not_available("timeout", instance)

    def _not_available(self, code: str, instance: Instance) -> PlatformError:
        """Says why, with what is known."""
        lines = self._near.log_tail.tail(instance.id, limits.LOG_LINES_IN_ERRORS)
        what = instance.name or instance.short
        if code == "failed":
            text = f"{what} did not become available: {instance.reason}"
            if instance.gave_up:
                text += f" ({instance.gave_up})"
        else:
            text = f"{what} is {instance.state}, not available, at the deadline"
            if instance.reason:
                text += f"; its last end: {instance.reason}"
        return PlatformError(
            code,
            text,
            hint=f"look at: paas logs {instance.short}",
            component=instance.id,
            state=str(instance.state),
            reason=instance.reason,
            restarts=instance.restarts,
            facts=instance.facts,
            log=lines,
        )

    async def _undo(self, created: list[str]) -> None:
        """Nobody knows of these components: end them.  Failed ones stay, to be looked at."""
        for component in created:
            instance = self._state.instances.get(component)
            if instance is None or instance.ended or instance.outcome is Outcome.FAIL:
                continue
            command = commands.EndInstance(component=component, grace_s=limits.LINK_GRACE_S)
            for attempt in range(1, limits.UNDO_TRIES_MAX + 1):
                try:
                    await self._log.propose(command, timeout_s=limits.PROPOSE_TIMEOUT_S)
                    break
                except PlatformError:
                    await trio.sleep(limits.PROCEDURE_BACKOFF.delay_s(attempt, 0.5))

    # -- ending ----------------------------------------------------------------------------------

    async def terminate(
        self, params: messages.TerminateComponent, context: Context
    ) -> messages.TerminateAnswer:
        await self._know(context, params.component)
        instance = self._owned(params.component, context)
        if instance.ended or instance.state is ComponentState.DESTROYING:
            raise PlatformError(
                "not-available", f"{instance.short} is {instance.state}", reason=instance.reason
            )
        return await self._ask_to_end(instance, params.inputs, context.timeout_s)

    async def terminate_here(
        self, params: messages.TerminateHere, context: Context
    ) -> messages.TerminateAnswer:
        """For the hub of another node, which has checked who asks."""
        instance = self._state.instances.resolve(params.component)
        if instance.node != self._controller.node:
            raise PlatformError("not-available", f"{instance.short} is not on this node any more")
        return await self._ask_to_end(instance, params.inputs, context.timeout_s)

    async def _ask_to_end(
        self, instance: Instance, inputs: Any, timeout_s: float
    ) -> messages.TerminateAnswer:
        """Its harness is asked by the hub of its node, which writes down that it agreed."""
        if instance.node != self._controller.node:
            return await self._remote(instance).request(
                instance.node,
                messages.TERMINATE_HERE,
                messages.TerminateHere(component=instance.id, inputs=inputs, timeout=timeout_s),
                timeout_s,
            )
        deadline_s = trio.current_time() + timeout_s
        left = await self._leave(instance, timeout_s)
        answer: TerminateResult | None = None
        try:
            timeout_s = max(0.0, deadline_s - trio.current_time())
            answer = await self._controller.harnesses.request(
                instance.id, TERMINATE, Terminate(reason="terminate", inputs=inputs), timeout_s
            )
        finally:
            if left and (answer is None or not answer.accepted):
                self._controller.soon(self._stay, instance.id, instance.incarnation)
        if answer.accepted:
            command = commands.EndInstance(component=instance.id, mode="terminate")
            await self._log.propose(command, timeout_s=timeout_s)
        return messages.TerminateAnswer(accepted=answer.accepted, reason=answer.reason)

    async def _leave(self, instance: Instance, timeout_s: float) -> bool:
        """Whoever accepts to end does so by itself, so gateways let go before it is asked."""
        drain_s = timeout_s * limits.DEPARTURE_SHARE
        command = commands.BeginDeparture(
            component=instance.id, incarnation=instance.incarnation, drain_s=drain_s
        )
        if not (await self._log.propose(command, timeout_s=timeout_s))["leaving"]:
            return False
        with trio.move_on_after(drain_s + limits.DEPARTURE_MARGIN_S):
            while (departure := self._state.departures.leaving.get(instance.id)) is not None:
                if not departure.waiting:
                    break
                await self._controller.wait_change(instance.id)
        return True

    async def _stay(self, component: str, incarnation: int) -> None:
        """It will not end; if this fails, its keeper says so later."""
        command = commands.ChangeInstance(
            component=component, incarnation=incarnation, event="stay", expected="leaving"
        )
        try:
            await self._log.propose(command, timeout_s=limits.PROPOSE_TIMEOUT_S)
        except PlatformError:
            return

    def _remote(self, instance: Instance) -> Remote:
        if self._near.remote is None or not instance.node:
            where = (
                f"on {instance.node}, which cannot be reached" if instance.node else "on no node"
            )
            raise PlatformError("not-available", f"{instance.short} is {where}")
        return self._near.remote

    async def destroy(self, params: messages.Destroy, context: Context) -> Nothing:
        await self._know(context, params.component)
        instance = self._owned(params.component, context)
        if not 0 <= params.grace <= limits.GRACE_S_MAX:
            raise invalid("grace", f"expected 0 to {limits.GRACE_S_MAX:.0f} seconds", param="grace")
        command = commands.EndInstance(component=instance.id, grace_s=params.grace)
        await self._log.propose(command, timeout_s=context.timeout_s)
        while True:
            now = self._state.instances.get(instance.id)
            if now is None or now.state is ComponentState.DESTROYED:
                return Nothing()
            await self._controller.wait_change(instance.id)

    # -- looking ---------------------------------------------------------------------------------

    async def components(
        self, params: messages.ListComponents, _context: Context
    ) -> messages.Components:
        instances.check_filter(params.filter)
        chosen = [
            instance
            for instance in self._state.instances
            if (params.all or instance.state is not ComponentState.DESTROYED)
            and instances.matches(instance, self._near.groups_of(instance.id), params.filter)
        ]
        figures = await self._figures.of([i.node for i in chosen if not i.ended])
        return messages.Components(
            components=[self._info(i, figures) for i in chosen],
            stale_s=self._near.staleness(),
        )

    async def component(
        self, params: messages.DescribeComponent, _context: Context
    ) -> messages.ComponentDetail:
        instance = self._state.instances.resolve(params.component)
        info = self._info(instance, await self._figures.of([instance.node]))
        return messages.ComponentDetail(
            **msgspec.structs.asdict(info), stale_s=self._near.staleness()
        )

    async def figures(self, _params: messages.GetFigures, _context: Context) -> messages.Figures:
        return messages.Figures(figures=await self._figures.here())

    def _info(
        self, instance: Instance, figures: dict[str, dict[str, messages.Figure]]
    ) -> messages.ComponentInfo:
        figure = figures.get(instance.node, {}).get(instance.id, messages.Figure())
        here = instance.node == self._controller.node
        return instances.info(
            instance,
            groups=self._near.groups_of(instance.id),
            links=self._state.links.of(instance.id),
            memory=figure.memory,
            pid=self._controller.pid_of(instance.id) if here else figure.pid,
        )

    def status(self, _params: messages.Status, _context: Context) -> messages.StatusResult:
        states: dict[str, int] = {}
        per_node: dict[str, int] = {}
        for instance in self._state.instances:
            states[str(instance.state)] = states.get(str(instance.state), 0) + 1
            if not instance.ended:
                per_node[instance.node] = per_node.get(instance.node, 0) + 1
        nodes = [
            {
                "name": node.name,
                "state": _node_state(node),
                "components": per_node.get(node.name, 0),
            }
            for node in self._near.nodes()
        ]
        return messages.StatusResult(
            cluster=self._near.cluster(),
            version=self._near.version,
            nodes=nodes,
            log=self._near.log_status(),
            types=len(self._state.types),
            components=states,
            hub={**self._near.hub_status(), **self._controller.statistics()},
            stale_s=self._near.staleness(),
            url=self._near.url(),
        )

    # -- emptying a node -------------------------------------------------------------------------

    async def drain(self, params: messages.DrainNode, context: Context) -> messages.Drained:
        """Order it; the node's own drainer does it.  Then only look, until nothing is left."""
        if not 0 <= params.grace <= limits.GRACE_S_MAX:
            raise invalid("grace", f"expected 0 to {limits.GRACE_S_MAX:.0f} seconds", param="grace")
        deadline_s = trio.current_time() + context.timeout_s * 0.9
        if self._near.drain is not None:
            await self._near.drain(params.node)
        command = commands.EmptyNode(node=params.node, grace_s=params.grace)
        await self._log.propose(command, timeout_s=context.timeout_s)
        with trio.move_on_at(deadline_s):
            while self._state.loads.count(params.node):
                await self._controller.wait_any_change()
        return messages.Drained(
            node=params.node,
            left=self._state.loads.count(params.node),
            components=draining.left(
                self._state, self._near.nodes(), params.node, limits.DRAIN_SHOWN_MAX
            ),
        )

    # -- monitors and links ----------------------------------------------------------------------

    def monitor(self, params: messages.Monitor, context: Context) -> messages.MonitorResult:
        peer, watches = context.peer, self._controller.watches
        instance = self._find_monitored(params.component)
        if instance is None:
            number = watches.open(peer, DOWN, params.component, 0)
            self._controller.soon(self._monitor_unknown, peer, number, params)
            return messages.MonitorResult(watch=number)
        # Who renews a monitor may know of a later incarnation than this replica does yet.
        newest = max(instance.newest, params.incarnation)
        number = watches.open(peer, DOWN, instance.id, newest)
        if instance.is_over(params.incarnation or newest):
            self._controller.soon(self._controller.down_already, peer, number, instance.id)
        return messages.MonitorResult(watch=number, incarnation=newest)

    async def _monitor_unknown(self, peer: Any, number: int, params: messages.Monitor) -> None:
        """Forgotten, or not known here yet?  What was acknowledged elsewhere has to come first."""
        while not peer.closed:
            try:
                await self._log.barrier()
                break
            except PlatformError:
                await trio.sleep(limits.BARRIER_RETRY_S)
        instance = self._state.instances.get(params.component)
        if instance is None or instance.is_over(params.incarnation or instance.newest):
            await self._controller.down_already(peer, number, params.component)

    def _find_monitored(self, target: str) -> Instance | None:
        """None for an identifier that this replica does not know: forgotten, or quite new."""
        try:
            return self._state.instances.resolve(target)
        except PlatformError as error:
            if error.code == "no-such-target" and ids.is_id(target):
                return None
            raise

    async def link(self, params: messages.Link, context: Context) -> Nothing:
        await self._know(context, params.a, params.b)
        a, b = self._owned(params.a, context), self._owned(params.b, context)
        command = commands.LinkInstances(a=a.id, b=b.id)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    async def unlink(self, params: messages.Unlink, context: Context) -> Nothing:
        await self._know(context, params.a, params.b)
        a, b = self._owned(params.a, context), self._owned(params.b, context)
        command = commands.UnlinkInstances(a=a.id, b=b.id)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    # -- who may ---------------------------------------------------------------------------------

    async def _know(self, context: Context, *targets: str) -> None:
        """A name may belong to another component by now than this replica has heard of."""
        if not all(ids.is_id(target) for target in targets):
            await self._log.barrier(timeout_s=context.timeout_s)

    def _owned(self, target: str, context: Context) -> Instance:
        instance = self._state.instances.resolve(target)
        self._check_owner(instance, _caller(context))
        return instance

    @staticmethod
    def _check_owner(instance: Instance, caller: str | None) -> None:
        if caller is not None and caller not in (instance.id, instance.created_by):
            raise PlatformError(
                "denied",
                f"a component may do this only with what it created, not with {instance.short}",
                component=instance.id,
            )


def _caller(context: Context) -> str | None:
    """The calling component's id; None for an operator."""
    component = context.peer.info.get("component")
    return component if isinstance(component, str) else None


def _node_state(node: NodeView) -> str:
    if not node.online:
        return "offline"
    return "cordoned" if node.cordoned else "available"
