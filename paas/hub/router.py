"""The router: which connection reaches which component, and the way of every call and cast.

    caller ──hub.call──> router ──component.invoke──> harness ──> component
           <──result────        <──outputs───────────

The router never waits and never looks into inputs or outputs: it decodes the envelope of a call,
finds the target, passes the raw payload on, and leaves a callback for the answer (architecture §6:
no disk, no consensus on the path of a call).  A target on another node is reached through that
node's hub (routes.py).  Order between one sender and one receiver is that of arrival.  A message is
delivered at most once; what cannot be delivered is an error of the caller:

    no-such-target   nobody has that id or name; the group has no members
    not-available    it exists, but is not ready (or its harness is reconnecting)
    limit-exceeded   too many calls wait for it, or it does not read, or the message is too large
    timeout          the deadline passed; a late answer is dropped.  Who names a frozen component
                     waits for it until then
    failed           it answered with an error, or with something that is no answer
    unknown-outcome  its connection broke after the call was sent
    denied           the caller may not (authorisation.py); of a group, none of the members

A call that its caller no longer wants (rpc.connection) is abandoned on the ways that it took, which
answers it `cancelled` here and tells whoever is next on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from functools import partial
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.harness.messages import InvokeResult
from paas.hub import limits, selection
from paas.hub.authorisation import Rights, Unrestricted
from paas.hub.choosing import Chooser, Way
from paas.hub.loads import Loads
from paas.hub.mailbox_claims import Claims, NoMailboxes
from paas.hub.messages import Call, CallResult, Cast, CastResult, Forward, MemberReply
from paas.hub.postman import Postman
from paas.hub.ring_building import RingBuilder
from paas.hub.routes import Attachment, Far, Links, NoLinks, Route
from paas.hub.traces import Traces
from paas.rpc.dispatch import remaining_s
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire.registry import decode

GROUP_PREFIX = "group:"

_TAKES = ("available", "leaving")
"""States in which a component takes what names it."""


class Directory(Protocol):
    """What the router asks about the cluster's state."""

    def resolve(self, target: str) -> str:
        """The component with this id or name; raises `no-such-target`."""
        ...

    def members(self, group: str) -> list[str]:
        """Components in the group, in joining order."""
        ...

    def state(self, component: str) -> str:
        """Its life-cycle state."""
        ...

    def node(self, component: str) -> str:
        """The node that it is placed on; empty if on none."""
        ...


def _always() -> bool:
    return True


def _is_frozen(component: str) -> PlatformError:
    return PlatformError(
        "timeout",
        f"component {component[:8]} is frozen, and was not thawed before the deadline",
        hint=f"let it go on: paas thaw {component[:8]}",
        component=component,
        reason="frozen",
    )


def _abandon_all(asked: list[tuple[Peer, int]]) -> None:
    for peer, identity in asked:
        peer.abandon(identity)


class Router:
    """Attachments of this hub, and the routing of calls over them and to other hubs.

    `may_run` says whether this node holds its lease: without it, nothing goes to or from its
    components, who may have successors elsewhere by now.
    """

    def __init__(
        self,
        directory: Directory,
        clock: Clock,
        *,
        node: str = "",
        links: Links | None = None,
        may_run: Callable[[], bool] = _always,
        traces: Traces | None = None,
        rights: Rights | None = None,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._node = node
        self._links = links or NoLinks()
        self._may_run = may_run
        self.traces = traces or Traces(
            node=node,
            now_ns=lambda: clock.now_ms() * 1_000_000,
            seed=node.encode(),
            links=self._links,
        )
        self._attached: dict[str, Attachment] = {}
        self._rights = rights or Unrestricted()
        self._loads = Loads(clock)
        self.chooser = Chooser(self._loads)
        self.ring_builder = RingBuilder(self.chooser.rings, clock)
        self.postman: Postman | None = None
        """Takes casts to groups that have a durable mailbox."""

        self.claims: Claims = NoMailboxes()
        """Judges other hubs that deliver for such groups."""

        self.frozen: Container[str] = frozenset()
        """Components that stand still: groups pass them over, who names one waits for it."""

        self.leaving: Container[str] = frozenset()
        """Components that are about to end: groups pass them over, who names one reaches it."""

        self.calls = 0
        self.casts = 0
        self.refused = 0
        self.forwards = 0
        self.refusals: dict[str, int] = {}
        """Messages that were not passed on, by code of the error."""

    # -- attachments -----------------------------------------------------------------------------

    def attach(self, component: str, peer: Peer, *, ready: bool) -> None:
        """The component is reached through `peer` from now on; an older connection is closed."""
        old = self._attached.get(component)
        self._attached[component] = Attachment(component, peer, ready)
        if old is not None and old.peer is not peer:
            old.peer.close()

    def detach(self, component: str, peer: Peer) -> bool:
        """The connection is gone; false when a newer one has taken its place already."""
        attachment = self._attached.get(component)
        if attachment is None or attachment.peer is not peer:
            return False
        del self._attached[component]
        return True

    def set_ready(self, component: str, ready: bool) -> None:
        if component in self._attached:
            self._attached[component].ready = ready

    def peer(self, component: str) -> Peer | None:
        attachment = self._attached.get(component)
        return attachment.peer if attachment else None

    def attachment(self, component: str) -> Attachment | None:
        return self._attached.get(component)

    def attachments(self) -> Iterable[Attachment]:
        return self._attached.values()

    def is_ready(self, component: str) -> bool:
        return self._route(component) is not None

    @property
    def attached(self) -> int:
        return len(self._attached)

    # -- calls -----------------------------------------------------------------------------------

    def call(self, peer: Peer, request: Request) -> None:
        """Handler of `hub.call`."""
        params = decode(request.params, Call)
        timeout_s = remaining_s(params, self._clock)
        self.calls += 1
        self._check_caller(peer)
        if params.selector.startswith("hash:"):
            self.ring_builder.attempt(self._call_traced, peer, request, params, timeout_s)
        else:
            self._call_traced(peer, request, params, timeout_s)

    def _call_traced(self, peer: Peer, request: Request, params: Call, timeout_s: float) -> None:
        if params.trace is not None or self.traces.rate:
            self.traces.hop(self._call, peer, request, params, timeout_s)
        else:
            self._call(peer, request, params, timeout_s)

    def _call(self, peer: Peer, request: Request, params: Call, timeout_s: float) -> None:
        if params.selector == "all" and params.target.startswith(GROUP_PREFIX):
            self._call_all(peer, request, params, timeout_s)
            return
        route = self._choose(peer, params)
        if route.component in self.frozen:  # its error must come before that of the caller's clock
            timeout_s -= min(limits.FROZEN_MARGIN_S, timeout_s / 10)

        def answer(value: bytes | PlatformError) -> None:
            result = self._outcome(value, route.component)
            if isinstance(result, PlatformError):
                peer.fail(request, result)
                return
            said = CallResult(
                outputs=result.outputs, attachments=result.attachments, component=route.component
            )
            peer.reply(request, said)

        message = self._forward(peer, params, route.component, timeout_s)
        asked = self._send(route, message, answer)
        if asked is not None:
            request.on_cancel = partial(route.peer.abandon, asked)

    def _check_caller(self, peer: Peer) -> None:
        if "component" in peer.info and not self._may_run():
            raise PlatformError("not-available", "the lease of this node has ended")

    def _outcome(
        self, value: bytes | PlatformError, component: str
    ) -> InvokeResult | PlatformError:
        """What a component answered, read without trust."""
        if isinstance(value, PlatformError):
            if value.code == "timeout" and component in self.frozen:
                return _is_frozen(component)
            return value
        try:
            return decode(value, InvokeResult)
        except PlatformError as exc:
            text = f"the component's answer is not one to component.invoke: {exc.message}"
            return PlatformError("failed", text, component=component)

    def cast(self, peer: Peer, request: Request) -> None:
        """Handler of `hub.cast`."""
        params = decode(request.params, Cast)
        timeout_s = remaining_s(params, self._clock)
        self.casts += 1
        self._check_caller(peer)
        if params.selector.startswith("hash:"):
            self.ring_builder.attempt(self._cast_traced, peer, request, params, timeout_s)
        else:
            self._cast_traced(peer, request, params, timeout_s)

    def _cast_traced(self, peer: Peer, request: Request, params: Cast, timeout_s: float) -> None:
        if params.trace is not None or self.traces.rate:
            self.traces.hop(self._cast, peer, request, params, timeout_s)
        else:
            self._cast(peer, request, params, timeout_s)

    def _cast(self, peer: Peer, request: Request, params: Cast, timeout_s: float) -> None:
        if self.postman is not None and self.postman.takes(params.target, params.selector):
            self._check_keeping(peer, params)
            self.postman.post(peer, request, params)
            return
        targets: list[Route]
        if params.selector == "all" and params.target.startswith(GROUP_PREFIX):
            targets = self._available(peer, params)
        else:
            targets = [self._choose(peer, params)]
        size = len(params.inputs) + len(params.attachments)
        self._admit_fanout(size, len(targets))
        accepted, refusal = 0, None
        for route in targets:
            try:
                self._admit(route)
                message = self._forward(peer, params, route.component, timeout_s)
                route.tell(message, self._clock)
            except PlatformError as exc:  # one who is full does not keep it from the others
                refusal = exc
            else:
                accepted += 1
        if refusal is not None and not accepted:
            raise refusal
        peer.reply(request, CastResult(accepted=accepted))

    def forward(self, peer: Peer, request: Request) -> None:
        """Handler of `hub.forward`: what another hub's caller wants of a component here."""
        message = decode(request.params, Forward)
        self.forwards += 1
        timeout_s = remaining_s(message, self._clock)
        if message.trace is None:
            self._deliver(peer, request, message, timeout_s)
        else:
            self.traces.hop(self._deliver, peer, request, message, timeout_s)

    def _deliver(self, peer: Peer, request: Request, message: Forward, timeout_s: float) -> None:
        attachment = self._attached.get(message.component)
        if attachment is None or not attachment.ready or not self._may_run():
            raise self._not_here(message.component, message.component)
        node = peer.info.get("node", "?")
        if message.message is not msgspec.UNSET:
            self.claims.check(node, message)
            node = ""  # from the mailbox's primary, wherever its sender lives
        self._rights.check_forwarded(
            node, message.from_, message.component, message.operation, message.object
        )
        self._admit(attachment)
        if request.notification:
            attachment.tell(message, self._clock)
            return

        def answer(value: bytes | PlatformError) -> None:
            if isinstance(value, PlatformError):
                peer.fail(request, value)
            else:
                peer.reply(request, value)

        asked = attachment.send(message, answer, timeout_s, self._clock)
        if asked is not None:
            request.on_cancel = partial(attachment.peer.abandon, asked)

    def ready_members(self, group: str) -> list[str]:
        """Members that can be given something now (`mailbox_keeper.Deliveries`)."""
        members = self._directory.members(group)
        return [member for member in members if self._member_route(member) is not None]

    def deliver(self, message: Forward, answer: Callable[[bytes | PlatformError], None]) -> None:
        """Send a message of a mailbox; raises what keeps it from being sent."""
        route = self._route(message.component)
        if route is None:
            raise self._not_here(message.component, message.component)
        self._rights.check(message.from_, message.component, message.operation, message.object)
        self._send(route, message, answer)

    def _send(
        self, route: Route, message: Forward, answer: Callable[[bytes | PlatformError], None]
    ) -> int | None:
        self._admit(route)
        if message.trace is not None:
            message, answer = self.traces.onward(route, message, answer)
        assert message.timeout is not None
        return route.send(message, answer, message.timeout, self._clock)

    @staticmethod
    def _forward(caller: Peer, params: Call | Cast, component: str, timeout_s: float) -> Forward:
        return Forward(
            component=component,
            operation=params.operation,
            object=params.object,
            inputs=params.inputs,
            attachments=params.attachments,
            from_=caller.info.get("component", ""),
            timeout=timeout_s,
            trace=params.trace,
            load=params.selector == "least-loaded",
        )

    def _admit(self, route: Route) -> None:
        """The component's mailbox, and the way to its node, are bounded in messages and bytes."""
        try:
            route.admit()
        except PlatformError as exc:
            self.refused += 1
            self.count_refusal(exc)
            raise

    def count_refusal(self, error: PlatformError) -> None:
        self.refusals[error.code] = self.refusals.get(error.code, 0) + 1

    @staticmethod
    def _admit_fanout(size: int, copies: int) -> None:
        if size * copies > limits.FANOUT_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"{size} bytes to each of {copies} members exceed {limits.FANOUT_BYTES_MAX}",
                hint="store large values as blobs and send their digests",
            )

    # -- targets ---------------------------------------------------------------------------------

    def _choose(self, peer: Peer, params: Call | Cast) -> Route:
        target, selector = params.target, selection.parse(params.selector)
        if not target.startswith(GROUP_PREFIX):
            component = self._directory.resolve(target)
        elif selector.word == "leader":
            component = self._members(target)[0]
        else:
            members = self._members(target)
            group = target[len(GROUP_PREFIX) :]
            chosen = self.chooser.one(group, selector, members, self._way(peer, params))
            if chosen is None:
                raise self._none(peer, params, members)
            return chosen
        caller = peer.info.get("component", "")
        self._rights.check(caller, component, params.operation, params.object)
        route = self._route(component)
        if route is None and component in self.frozen:
            route = self._route_to_frozen(component)
        if route is None:
            raise self._not_here(target, component)
        return route

    def _way(self, peer: Peer, params: Call | Cast) -> Way:
        """Ways to members that are available and that the caller may talk to."""
        caller, operation, object_name = (
            peer.info.get("component", ""),
            params.operation,
            params.object,
        )
        find, allows = self._member_route, self._rights.allows

        def way(component: str) -> Route | None:
            route = find(component)
            if route is None or not allows(caller, component, operation, object_name):
                return None
            return route

        return way

    def _none(self, peer: Peer, params: Call | Cast, members: list[str]) -> PlatformError:
        """Why no member can be reached: none is allowed, or those that are are not available."""
        try:
            self._check_some(peer, params, members)
        except PlatformError as exc:
            return exc
        group = params.target.removeprefix(GROUP_PREFIX)
        text = f"no member of group {group!r} is available"
        if params.selector.startswith("attribute:"):
            text += f", of those with {params.selector.removeprefix('attribute:')}"
        return PlatformError("not-available", text)

    def _check_some(self, peer: Peer, params: Call | Cast, members: list[str]) -> None:
        """Raises `denied` when the caller may talk to none of them, although there are some."""
        caller, operation, object_name = (
            peer.info.get("component", ""),
            params.operation,
            params.object,
        )
        allows = self._rights.allows
        if members and not any(allows(caller, m, operation, object_name) for m in members):
            self._rights.check(caller, members[0], operation, object_name)

    def _check_keeping(self, peer: Peer, params: Cast) -> None:
        """A message that no present member may be given is not put into a mailbox."""
        members = self._directory.members(params.target.removeprefix(GROUP_PREFIX))
        self._check_some(peer, params, members)

    def pick(self, group: str, selector: selection.Selector) -> list[str]:
        """What a selector means now for a list of members (`hub.members`)."""
        members = self._directory.members(group)
        if selector.word == "all" or not members:
            return members
        if selector.word == "leader":
            return members[:1]
        if selector.word == "attribute":
            return self.chooser.having(members, selector)
        chosen = self.chooser.one(group, selector, members, self._member_route)
        return [] if chosen is None else [chosen.component]

    def waiting(self, component: str) -> int | None:
        """How many calls wait for a component that is attached here."""
        attachment = self._attached.get(component)
        return None if attachment is None else attachment.waiting

    def _route(self, component: str) -> Route | None:
        """The way to a component that is available; None if there is none."""
        attachment = self._attached.get(component)
        if attachment is not None:
            if component in self.frozen:
                return None
            return attachment if attachment.ready and self._may_run() else None
        node = self._directory.node(component)
        if node in ("", self._node) or self._directory.state(component) not in _TAKES:
            return None
        peer = self._links.peer(node)
        return None if peer is None else Far(component, node, peer, self._loads)

    def _member_route(self, component: str) -> Route | None:
        """The way for what goes to a group."""
        return None if component in self.leaving else self._route(component)

    def _route_to_frozen(self, component: str) -> Route | None:
        """What is sent to it waits in its harness, and is answered when it goes on."""
        attachment = self._attached.get(component)
        if attachment is not None:
            return attachment if attachment.ready and self._may_run() else None
        node = self._directory.node(component)
        peer = None if node in ("", self._node) else self._links.peer(node)
        return None if peer is None else Far(component, node, peer, self._loads)

    def _not_here(self, target: str, component: str) -> PlatformError:
        state = self._directory.state(component)
        node = self._directory.node(component)
        text = f"component {target} is {state}"
        if state == "available":
            text = f"component {target} is reconnecting"
            if node != self._node:
                text = f"component {target} is on node {node}, which cannot be reached"
        return PlatformError("not-available", text, component=component, state=state)

    def _members(self, target: str) -> list[str]:
        group = target.removeprefix(GROUP_PREFIX)
        members = self._directory.members(group)
        if not members:
            raise PlatformError(
                "no-such-target",
                f"group {group!r} has no members",
                hint="list the groups: paas groups",
            )
        return members

    def _available(self, peer: Peer, params: Call | Cast) -> list[Route]:
        """Ways to the ready, allowed members of a group; raises when there is none."""
        members, way = self._members(params.target), self._way(peer, params)
        ready = [route for member in members if (route := way(member)) is not None]
        if not ready:
            raise self._none(peer, params, members)
        return ready

    # -- selector all ----------------------------------------------------------------------------

    def _call_all(self, peer: Peer, request: Request, params: Call, timeout_s: float) -> None:
        targets = self._available(peer, params)[: limits.CALL_ALL_REPLIES_MAX]
        self._admit_fanout(len(params.inputs) + len(params.attachments), len(targets))
        replies: list[MemberReply] = []
        size = 0

        def gather(component: str, value: bytes | PlatformError) -> None:
            nonlocal size
            size += len(value) if isinstance(value, bytes) else 0
            if size > limits.CALL_ALL_BYTES_MAX and isinstance(value, bytes):
                size -= len(value)
                value = PlatformError("limit-exceeded", "the answers do not fit in one reply")
            replies.append(self._member_reply(component, value))
            if len(replies) == len(targets):
                peer.reply(request, CallResult(replies=replies))

        asked: list[tuple[Peer, int]] = []
        for route in targets:

            def answer(value: bytes | PlatformError, component: str = route.component) -> None:
                gather(component, value)

            message = self._forward(peer, params, route.component, timeout_s)
            try:
                identity = self._send(route, message, answer)
            except PlatformError as exc:
                gather(route.component, exc)
            else:
                if identity is not None:
                    asked.append((route.peer, identity))
        request.on_cancel = partial(_abandon_all, asked)

    def _member_reply(self, component: str, value: bytes | PlatformError) -> MemberReply:
        result = self._outcome(value, component)
        if isinstance(result, PlatformError):
            return MemberReply(component=component, error=result.to_rpc())
        return MemberReply(
            component=component, outputs=result.outputs, attachments=result.attachments
        )

    def forget_group(self, group: str) -> None:
        """The group has no members any more; nothing is kept for it."""
        self.chooser.forget(group)

    def statistics(self) -> dict[str, Any]:
        return {
            "attached": len(self._attached),
            "calls": self.calls,
            "casts": self.casts,
            "forwards": self.forwards,
            "refused": self.refused,
            "refusals": dict(sorted(self.refusals.items())),
            "waiting": sum(a.waiting for a in self._attached.values()),
        }
