"""From a request to its handler: one table, one way.

A handler is declared for a `Method` of the register and gets typed parameters.  It may be plain
(answers at once) or asynchronous (a task in the owner's nursery).  Before it runs, the request
passes: known method? → allowed for this peer? → parameters valid? → deadline still ahead?  Whatever
goes wrong is an answer with a code of the catalogue; an exception that is not a PlatformError is
our bug: it is logged with its traceback and answered `internal`, and the connection lives on.

Tasks are bounded as requests are: what is answered counts as outstanding (rpc.connection), and
notifications, which nobody waits for, are counted here; beyond the limit they are dropped.

A method without a policy row does not start (style A19): `check_policy` compares the two tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from paas.base.errors import LocalError, PlatformError
from paas.base.limits import (
    CALL_TIMEOUT_S_DEFAULT,
    CALL_TIMEOUT_S_MAX,
    OUTSTANDING_REQUESTS_MAX,
)
from paas.base.ports import Clock
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire.registry import BY_NAME, Message, Method, Params, decode


@dataclass(slots=True)
class Context:
    """What a handler may want to know beside its parameters."""

    peer: Peer
    request: Request
    timeout_s: float


PlainHandler = Callable[[Any, Context], Message | None]
TaskHandler = Callable[[Any, Context], Awaitable[Message | None]]
Authorise = Callable[[Peer, str], None]
"""Raises PlatformError("denied") when the peer may not call the method."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of a policy table: which roles may call a method."""

    roles: frozenset[str]


def check_policy(methods: set[str], policy: Mapping[str, Rule]) -> None:
    """Every method has a row and every row a method, or the agent does not start."""
    missing, stale = methods - policy.keys(), policy.keys() - methods
    if missing or stale:
        raise LocalError(f"policy table: missing {sorted(missing)}, stale {sorted(stale)}")


def remaining_s(params: Params, clock: Clock) -> float:
    """How long the sender waits, in seconds; raises `timeout` when that is over."""
    if params.deadline is not None:
        left = params.deadline - clock.now_ms() / 1000
        if not left > 0:  # also for what is not a number
            raise PlatformError("timeout", "the deadline had passed when the request arrived")
        return min(left, CALL_TIMEOUT_S_MAX)
    if params.timeout is None:
        return CALL_TIMEOUT_S_DEFAULT
    if not 0 < params.timeout <= CALL_TIMEOUT_S_MAX:
        raise PlatformError(
            "invalid",
            f"timeout: expected more than 0 and at most {CALL_TIMEOUT_S_MAX:.0f} seconds",
            field="timeout",
            param="timeout",
        )
    return params.timeout


class Dispatcher:
    """The table of handlers of one agent."""

    def __init__(
        self,
        nursery: trio.Nursery,
        clock: Clock,
        *,
        authorise: Authorise | None = None,
        on_bug: Callable[[str, Exception], None],
    ) -> None:
        self._nursery = nursery
        self._clock = clock
        self._authorise = authorise
        self._on_bug = on_bug
        self._plain: dict[str, tuple[type[Params], PlainHandler]] = {}
        self._tasks: dict[str, tuple[type[Params], TaskHandler, bool]] = {}
        self._told: dict[Peer, int] = {}  # notifications at work
        self.dropped_notifications = 0
        self._raw: dict[str, Callable[[Peer, Request], None]] = {}

    def plain(self, method: Method[Any, Any], handler: PlainHandler) -> None:
        self._plain[self._new(method)] = (method.params, handler)

    def task(
        self, method: Method[Any, Any], handler: TaskHandler, *, while_connected: bool = False
    ) -> None:
        """`while_connected`: the handler only waits for something on behalf of the peer, and is
        cancelled when that goes; else it goes on to its end, whoever is left to hear of it.
        `rpc.cancel` ends both, as their deadline would.
        """
        self._tasks[self._new(method)] = (method.params, handler, while_connected)

    def raw(self, method: Method[Any, Any], handler: Callable[[Peer, Request], None]) -> None:
        """For routers: the handler decodes and answers by itself, perhaps much later."""
        self._raw[self._new(method)] = handler

    def _new(self, method: Method[Any, Any]) -> str:
        if method.name in self.methods():
            raise LocalError(f"{method.name} has two handlers")
        return method.name

    def methods(self) -> set[str]:
        return {*self._plain, *self._tasks, *self._raw}

    def __call__(self, peer: Peer, request: Request) -> None:
        name = request.method
        try:
            if self._authorise is not None:
                self._authorise(peer, name)
            if name in self._raw:
                self._raw[name](peer, request)
            elif name in self._plain:
                kind, plain = self._plain[name]
                params = decode(request.params, kind)
                context = Context(peer, request, remaining_s(params, self._clock))
                peer.reply(request, plain(params, context))
            elif name in self._tasks:
                self._start(peer, request)
            else:
                raise _no_such_method(name, self.methods())
        except PlatformError as exc:
            peer.fail(request, exc)
        except Exception as exc:
            self._on_bug(name, exc)
            peer.fail(request, PlatformError("internal"))

    def _start(self, peer: Peer, request: Request) -> None:
        kind, handler, while_connected = self._tasks[request.method]
        params = decode(request.params, kind)
        context = Context(peer, request, remaining_s(params, self._clock))
        if request.notification:
            if self._told.get(peer, 0) >= OUTSTANDING_REQUESTS_MAX:
                self.dropped_notifications += 1
                return
            self._told[peer] = self._told.get(peer, 0) + 1
        self._nursery.start_soon(self._run, handler, params, context, while_connected)

    async def _run(
        self, handler: TaskHandler, params: Any, context: Context, while_connected: bool
    ) -> None:
        peer, request = context.peer, context.request
        scope = trio.CancelScope()

        def cancelled() -> None:
            if while_connected or not peer.connection.ended:
                scope.cancel()

        try:
            with scope:
                request.on_cancel = cancelled
                if request.cancelled:
                    cancelled()
                if while_connected:
                    peer.scopes[scope] = None
                    if peer.closed:
                        scope.cancel()
                await self._answer(handler, params, context)
            if scope.cancelled_caught:
                peer.fail(request, PlatformError("cancelled"))
        finally:
            peer.scopes.pop(scope, None)
            if not peer.scopes:
                peer.scopes.clear()  # an empty table keeps its memory otherwise
            if request.notification:
                self._told[peer] -= 1
                if not self._told[peer]:
                    del self._told[peer]

    async def _answer(self, handler: TaskHandler, params: Any, context: Context) -> None:
        peer, request = context.peer, context.request
        try:
            with trio.fail_after(context.timeout_s):
                result = await handler(params, context)
            peer.reply(request, result)
        except PlatformError as exc:
            peer.fail(request, exc)
        except trio.TooSlowError:
            peer.fail(request, PlatformError("timeout"))
        except Exception as exc:
            self._on_bug(request.method, exc)
            peer.fail(request, PlatformError("internal"))


def _no_such_method(name: str, known: set[str]) -> PlatformError:
    shown = name if len(name) <= 64 else name[:64] + "…"
    if name in BY_NAME and name not in known:
        return PlatformError("no-such-method", f"{shown} is not answered here")
    return PlatformError("no-such-method", f"no method is called {shown!r}")
