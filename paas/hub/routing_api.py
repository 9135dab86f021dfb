"""What can be asked about routing, beside calling: who may call whom, how busy somebody is.

hub.allow    the verdict of authorisation.py for a pair, or for each member of a group
hub.loads    another hub's question for waiting calls (loads.py)
hub.top      figures (top.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.controller.messages import TypeRegistered, TypeUnregistered
from paas.hub.authorisation import Authorisation
from paas.hub.figures import Figures
from paas.hub.loads import answer_loads
from paas.hub.messages import ALLOW, LOADS, Allow, AllowResult, Loads, LoadsResult, Side
from paas.hub.router import GROUP_PREFIX, Directory, Router
from paas.hub.routes import Links, NoLinks
from paas.hub.state import MemberLeft
from paas.hub.top import Members, TopBoard
from paas.hub.top_messages import TOP
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire import codec


class NamedDirectory(Directory, Members, Protocol):
    """Where components are, and how they are called."""


_TYPES_CHANGED = (TypeRegistered, TypeUnregistered, StateReplaced)


class RoutingApi:
    """See the module's text.  Without `authorisation` everybody may everything."""

    def __init__(
        self,
        router: Router,
        directory: NamedDirectory,
        authorisation: Authorisation | None,
        *,
        node: str,
        links: Links | None,
        clock: Clock,
    ) -> None:
        self._router = router
        self._directory = directory
        self._authorisation = authorisation
        self._figures = Figures(router)
        self.board = TopBoard(
            node=node, router=router, members=directory, links=links or NoLinks(), clock=clock
        )

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(ALLOW, self._allow)
        dispatcher.plain(LOADS, self._loads)
        dispatcher.task(TOP, self.board.top)

    def counted(self, handler: Callable[[Peer, Request], None]) -> Callable[[Peer, Request], None]:
        """The handler, with its refusals counted; those of full mailboxes are counted already."""

        def counted(peer: Peer, request: Request) -> None:
            try:
                handler(peer, request)
            except PlatformError as exc:
                if exc.code != "limit-exceeded":
                    self._router.count_refusal(exc)
                raise

        return counted

    def state_changed(self, events: Sequence[object]) -> None:
        """What is remembered of types and members may be of the past."""
        for event in events:
            if isinstance(event, StateReplaced):
                for group in sorted(self._router.chooser.groups()):
                    self._router.chooser.forget(group)
            if isinstance(event, MemberLeft):
                self._router.chooser.left(event.group, event.component)
            elif self._authorisation is not None and isinstance(event, _TYPES_CHANGED):
                self._authorisation.forget()

    # -- for watches and attributes --------------------------------------------------------------

    def permit(self, peer: Peer, target: str, operation: str) -> None:
        """May this peer see `attributes` or `signals` of a component, or of a group as it is now?

        Raises `denied`; of a group, unless every present member may be seen.
        """
        caller = peer.info.get("component", "")
        if self._authorisation is None or not caller:
            return
        group = target.removeprefix(GROUP_PREFIX)
        for component in [target] if group == target else self._directory.members(group):
            self._authorisation.check(caller, component, operation, "")

    def own_values(self, component: str) -> Mapping[str, bytes]:
        """The attributes `hub.*` of a component, packed."""
        found = self._figures.figures_of(component)
        return {name: codec.pack(value) for name, value in found.items()}

    # -- handlers --------------------------------------------------------------------------------

    def _allow(self, params: Allow, context: Context) -> AllowResult:
        own = context.peer.info.get("component", "")
        caller = self._directory.resolve(params.from_) if params.from_ else own
        if own and caller != own:
            raise PlatformError("denied", "a component may ask for itself only")
        if self._authorisation is None:
            raise PlatformError("unsupported", "this hub knows no types")
        target = params.target
        if target.startswith(GROUP_PREFIX):
            targets = self._directory.members(target.removeprefix(GROUP_PREFIX))
        else:
            targets = [self._directory.resolve(target)]
        verdicts = [
            self._authorisation.explain(caller, component, params.operation, params.object)
            for component in targets
        ]
        side = (
            self._authorisation.side(caller)
            if caller
            else Side(component="", type="", application="")
        )
        allowed = any(verdict.allowed for verdict in verdicts)
        return AllowResult(allowed=allowed, from_=side, targets=verdicts)

    def _loads(self, params: Loads, _context: Context) -> LoadsResult:
        return answer_loads(params, self._router.waiting)
