"""The router: which connection reaches which component, and the way of every call and cast.

    caller ──hub.call──> router ──component.invoke──> harness ──> component
           <──result────        <──outputs───────────

The router never waits and never looks into inputs or outputs: it decodes the envelope of a call,
finds the target, passes the raw payload on, and leaves a callback for the answer (architecture §6:
no disk, no consensus on the path of a call).  Order between one sender and one receiver is that of
arrival.  A message is delivered at most once; what cannot be delivered is an error of the caller:

    no-such-target   nobody has that id or name; the group has no members
    not-available    it exists, but is not ready (or its harness is reconnecting)
    limit-exceeded   too many calls wait for it, or it does not read, or the message is too large
    timeout          the deadline passed; a late answer is dropped
    failed           it answered with an error, or with something that is no answer
    unknown-outcome  its connection broke after the call was sent
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.harness.messages import INVOKE, Invoke, InvokeResult
from paas.hub import limits, selection
from paas.hub.messages import Call, CallResult, Cast, CastResult, MemberReply
from paas.rpc.dispatch import remaining_s
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire import codec
from paas.wire.registry import decode

GROUP_PREFIX = "group:"


class Directory(Protocol):
    """What the router asks about the cluster's state."""

    def resolve(self, target: str) -> str:
        """The component with this id or name; raises `no-such-target`."""
        ...

    def members(self, group: str) -> list[str]:
        """Components in the group, in joining order."""
        ...

    def state(self, component: str) -> str:
        """Its life-cycle state, for error messages."""
        ...


@dataclass(slots=True, eq=False)
class Attachment:
    """One attached harness: its connection and what its component is ready for."""

    component: str
    peer: Peer
    ready: bool = False
    waiting: int = 0
    delivered: int = 0


class Router:
    """Attachments of this hub, and the routing of calls over them."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._attached: dict[str, Attachment] = {}
        self._turns = selection.Turns()
        self.calls = 0
        self.casts = 0
        self.refused = 0

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

    def is_ready(self, component: str) -> bool:
        attachment = self._attached.get(component)
        return attachment is not None and attachment.ready

    @property
    def attached(self) -> int:
        return len(self._attached)

    # -- calls -----------------------------------------------------------------------------------

    def call(self, peer: Peer, request: Request) -> None:
        """Handler of `hub.call`."""
        params = decode(request.params, Call)
        timeout_s = remaining_s(params, self._clock)
        self.calls += 1
        if params.selector == "all" and params.target.startswith(GROUP_PREFIX):
            self._call_all(peer, request, params, timeout_s)
            return
        attachment = self._choose(params.target, params.selector)

        def answer(value: bytes | PlatformError) -> None:
            result = self._outcome(value, attachment.component)
            if isinstance(result, PlatformError):
                peer.fail(request, result)
                return
            said = CallResult(
                outputs=result.outputs,
                attachments=result.attachments,
                component=attachment.component,
            )
            peer.reply(request, said)

        self._invoke(attachment, peer, params, timeout_s, answer)

    @staticmethod
    def _outcome(value: bytes | PlatformError, component: str) -> InvokeResult | PlatformError:
        """What a component answered, read without trust."""
        if isinstance(value, PlatformError):
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
        if params.selector == "all" and params.target.startswith(GROUP_PREFIX):
            targets = self._available(params.target)
        else:
            targets = [self._choose(params.target, params.selector)]
        body = codec.pack(self._invocation(peer, params, timeout_s, oneway=True))
        self._admit_fanout(len(body), len(targets))
        accepted, refusal = 0, None
        for attachment in targets:
            try:
                self._admit(attachment)
                attachment.peer.notify_raw(INVOKE.name, body)
            except PlatformError as exc:  # one who is full does not keep it from the others
                refusal = exc
            else:
                attachment.delivered += 1
                accepted += 1
        if refusal is not None and not accepted:
            raise refusal
        peer.reply(request, CastResult(accepted=accepted))

    def _invoke(
        self,
        attachment: Attachment,
        caller: Peer,
        params: Call,
        timeout_s: float,
        answer: Callable[[bytes | PlatformError], None],
    ) -> None:
        self._admit(attachment)
        attachment.waiting += 1
        attachment.delivered += 1

        def done(value: bytes | PlatformError) -> None:
            attachment.waiting -= 1
            answer(value)

        body = codec.pack(self._invocation(caller, params, timeout_s, oneway=False))
        attachment.peer.send_request(INVOKE.name, body, done, timeout_s=timeout_s)

    def _invocation(
        self, caller: Peer, params: Call | Cast, timeout_s: float, *, oneway: bool
    ) -> Invoke:
        return Invoke(
            operation=params.operation,
            object=params.object,
            inputs=params.inputs,
            attachments=params.attachments,
            from_=caller.info.get("component", ""),
            deadline=self._clock.now_ms() / 1000 + timeout_s,
            trace=params.trace,
            oneway=oneway,
        )

    def _admit(self, attachment: Attachment) -> None:
        """The component's mailbox is bounded in messages and bytes."""
        queued = attachment.peer.link.queued_bytes
        if attachment.waiting >= limits.INVOCATIONS_MAX or queued > limits.MAILBOX_BYTES_MAX:
            self.refused += 1
            raise PlatformError(
                "limit-exceeded",
                f"{attachment.waiting} calls wait for {attachment.component[:8]} already",
                component=attachment.component,
            )

    @staticmethod
    def _admit_fanout(size: int, copies: int) -> None:
        if size * copies > limits.FANOUT_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"{size} bytes to each of {copies} members exceed {limits.FANOUT_BYTES_MAX}",
                hint="store large values as blobs and send their digests",
            )

    # -- targets ---------------------------------------------------------------------------------

    def _choose(self, target: str, selector: str) -> Attachment:
        selection.check(selector)
        if target.startswith(GROUP_PREFIX):
            candidates = self._available(target)
            chosen = self._turns.any(target, [a.component for a in candidates])
            return self._attached[chosen]
        component = self._directory.resolve(target)
        attachment = self._attached.get(component)
        if attachment is None or not attachment.ready:
            state = self._directory.state(component)
            text = f"component {target} is {state}"
            if state == "available":
                text = f"component {target} is reconnecting"
            raise PlatformError("not-available", text, component=component, state=state)
        return attachment

    def _available(self, target: str) -> list[Attachment]:
        """The ready members of a group; raises when there is none."""
        group = target.removeprefix(GROUP_PREFIX)
        members = self._directory.members(group)
        if not members:
            raise PlatformError(
                "no-such-target",
                f"group {group!r} has no members",
                hint="list the groups: paas groups",
            )
        ready = [a for m in members if (a := self._attached.get(m)) is not None and a.ready]
        if not ready:
            raise PlatformError("not-available", f"no member of group {group!r} is available")
        return ready

    # -- selector all ----------------------------------------------------------------------------

    def _call_all(self, peer: Peer, request: Request, params: Call, timeout_s: float) -> None:
        targets = self._available(params.target)[: limits.CALL_ALL_REPLIES_MAX]
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

        for attachment in targets:

            def answer(value: bytes | PlatformError, component: str = attachment.component) -> None:
                gather(component, value)

            try:
                self._invoke(attachment, peer, params, timeout_s, answer)
            except PlatformError as exc:
                gather(attachment.component, exc)

    def _member_reply(self, component: str, value: bytes | PlatformError) -> MemberReply:
        result = self._outcome(value, component)
        if isinstance(result, PlatformError):
            return MemberReply(component=component, error=result.to_rpc())
        return MemberReply(
            component=component, outputs=result.outputs, attachments=result.attachments
        )

    def forget_group(self, group: str) -> None:
        """The group has no members any more; nothing is kept for it."""
        self._turns.forget(GROUP_PREFIX + group)

    def statistics(self) -> dict[str, Any]:
        return {
            "attached": len(self._attached),
            "calls": self.calls,
            "casts": self.casts,
            "refused": self.refused,
            "waiting": sum(a.waiting for a in self._attached.values()),
        }
