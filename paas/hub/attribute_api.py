"""`hub.set_attributes`, `hub.get_attributes`, and `hub.values` between hubs.

    durable    a command of the log (attributes.py); read from this replica, with its age
    volatile   in the hub of the component's node (volatile.py); read there, changed there
    hub.*      what that hub knows of the component itself; read-only

A component sets its own, an operator anybody's.  When a name exists as both kinds, the volatile one
is shown: it is the newer thought.  A node that cannot be reached costs an answer only its volatile
attributes, and the answer says whose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock
from paas.hub import attribute_limits as limits
from paas.hub.attribute_messages import (
    SET_ATTRIBUTES,
    GetAttributes,
    GetAttributesResult,
    SetAttributes,
    SetAttributesResult,
    Values,
    ValuesResult,
)
from paas.hub.attributes import (
    RESERVED,
    AttributeState,
    PutAttributes,
    canonical,
    check_name,
    cost,
    too_much,
)
from paas.hub.gathering import Gathering
from paas.hub.routes import Links
from paas.hub.sights import GROUP_PREFIX, raw
from paas.hub.signals import Signals
from paas.hub.state import GroupState
from paas.hub.watching import Cluster, Desk, check_group
from paas.rpc.dispatch import Context, remaining_s
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire import codec
from paas.wire.registry import decode

Packed = dict[str, bytes | None]


class Log(Protocol):
    """What is needed of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    def applied(self) -> int: ...


class AttributeApi:
    """See the module's text."""

    def __init__(
        self,
        *,
        node: str,
        log: Log,
        clock: Clock,
        groups: GroupState,
        cluster: Cluster,
        attributes: AttributeState,
        links: Links,
        desk: Desk,
        signals: Signals,
        attached: Callable[[str], bool],
        stale_s: Callable[[], float | msgspec.UnsetType],
    ) -> None:
        self._node = node
        self._log = log
        self._clock = clock
        self._groups = groups
        self._cluster = cluster
        self._attributes = attributes
        self._links = links
        self._desk = desk
        self._signals = signals
        self._attached = attached
        self._stale_s = stale_s

    # -- setting ---------------------------------------------------------------------------------

    async def set(self, params: SetAttributes, context: Context) -> SetAttributesResult:
        """Handler of `hub.set_attributes`; from another hub it is about a component of ours."""
        component = self._own_or_any(context.peer, params.target)
        check_name("object", params.object, empty=True)
        attributes = self._checked(params.attributes, "attributes")
        if not attributes:
            raise invalid("attributes", "expected at least one name", param="attributes")
        if params.kind == "durable":
            return await self._set_durable(component, params, attributes, context)
        if params.expect:
            raise invalid("expect", "only durable attributes can be compared", param="expect")
        ttl_s = params.ttl
        if ttl_s is not None and not 0 < ttl_s <= limits.TTL_S_MAX:
            text = f"expected more than 0 and at most {limits.TTL_S_MAX:.0f} seconds"
            raise invalid("ttl", text, param="ttl")
        for name, value in attributes.items():
            if value is not None and len(value) > limits.VALUE_BYTES_MAX:
                raise too_much(f"bytes of the value of {name}", limits.VALUE_BYTES_MAX)
        if not self._attached(component):
            return await self._set_far(component, params, context)
        until_s = None if ttl_s is None else self._clock.monotonic_s() + ttl_s
        change = self._desk.volatile.put(component, params.object, attributes, until_s)
        self._signals.changed(change)
        self._desk.wake()
        return SetAttributesResult(index=0)

    def _own_or_any(self, peer: Peer, target: str) -> str:
        own = peer.info.get("component")
        component = self._cluster.resolve(target) if target or own is None else str(own)
        if own is not None and component != own:
            raise PlatformError("denied", "a component sets its own attributes only")
        return component

    async def _set_durable(
        self, component: str, params: SetAttributes, attributes: Packed, context: Context
    ) -> SetAttributesResult:
        if params.ttl is not None:
            raise invalid("ttl", "only volatile attributes have a time to live", param="ttl")
        expect = self._checked(params.expect, "expect")
        size = sum(cost(n, v or b"") for part in (attributes, expect) for n, v in part.items())
        if size > limits.DURABLE_CHANGE_BYTES_MAX:
            raise too_much("bytes of one durable change", limits.DURABLE_CHANGE_BYTES_MAX)
        command = PutAttributes(
            component=component, object=params.object, attributes=attributes, expect=expect
        )
        result = await self._log.propose(command, timeout_s=context.timeout_s)
        return SetAttributesResult(index=result["index"])

    async def _set_far(
        self, component: str, params: SetAttributes, context: Context
    ) -> SetAttributesResult:
        node = self._cluster.node(component)
        peer = None if node == self._node else self._links.peer(node)
        if peer is None or "hub" in context.peer.info["roles"]:
            raise PlatformError("not-available", "its node does not know it, or cannot be reached")
        said = msgspec.structs.replace(params, target=component)
        return await peer.call(SET_ATTRIBUTES, said, timeout_s=context.timeout_s)

    @staticmethod
    def _checked(given: Mapping[str, msgspec.Raw], field: str) -> Packed:
        for name in given:
            check_name(field, name)
            if name.startswith(RESERVED):
                text = f"names that begin with {RESERVED!r} are the platform's own"
                raise invalid(f"{field}.{name}", text, param=field)
        return {name: canonical(f"{field}.{name}", value) for name, value in given.items()}

    # -- getting ---------------------------------------------------------------------------------

    def get(self, peer: Peer, request: Request) -> None:
        """Handler of `hub.get_attributes`; answers when the other nodes have, or could not."""
        params = decode(request.params, GetAttributes)
        timeout_s = min(remaining_s(params, self._clock), limits.VALUES_TIMEOUT_S)
        check_name("object", params.object, empty=True)
        target = params.target
        if target.startswith(GROUP_PREFIX):
            check_group(target[len(GROUP_PREFIX) :])
            self._desk.permit(peer, target, "attributes")
            components = self._groups.members(target[len(GROUP_PREFIX) :])
        else:
            if params.aggregate is not None:
                raise invalid("aggregate", "only of a group", param="aggregate")
            own = peer.info.get("component")
            component = self._cluster.resolve(target) if target or own is None else str(own)
            if component != own:
                self._desk.permit(peer, component, "attributes")
            components = [component]
        done = partial(self._answer, peer, request, params, components)
        places: dict[str, str] = {}
        if params.kind != "durable":
            nodes = ((c, self._cluster.node(c)) for c in components)
            places = {c: n for c, n in nodes if n not in ("", self._node)}
        Gathering(done).start(self._links, places, params.object, params.names, timeout_s)

    def _answer(
        self,
        peer: Peer,
        request: Request,
        params: GetAttributes,
        components: Sequence[str],
        found: Gathering,
    ) -> None:
        shown = {c: self._shown(params, c, found) for c in components}
        answer = GetAttributesResult(
            index=self._log.applied(),
            missing=found.missing or msgspec.UNSET,
            stale_s=self._stale_s(),
        )
        if params.target.startswith(GROUP_PREFIX):
            members = {component: raw(attributes) for component, attributes in shown.items()}
            answer = msgspec.structs.replace(answer, members=members)
            if params.aggregate is not None:
                values = aggregate(params.aggregate, list(shown.values()))
                answer = msgspec.structs.replace(answer, aggregates=values)
        else:
            answer = msgspec.structs.replace(answer, attributes=raw(shown[components[0]]))
        peer.reply(request, answer)

    def _shown(self, params: GetAttributes, component: str, found: Gathering) -> dict[str, bytes]:
        shown: dict[str, bytes] = {}
        if params.kind != "volatile":
            shown.update(self._attributes.of(component, params.object))
        if params.kind != "durable":
            shown.update(found.values.get(component, {}))
            shown.update(self._local(component, params.object, params.names))
        if params.names is not None:
            return {name: shown[name] for name in params.names if name in shown}
        return shown

    def _local(self, component: str, object_: str, names: Sequence[str] | None) -> dict[str, bytes]:
        """What this hub has in memory; and what it knows itself, for who asks for it by name."""
        found = self._desk.volatile.of(component, object_)
        if names is not None and not object_ and self._attached(component):
            found.update(self._desk.own_values(component))
        return found

    def values(self, params: Values, _context: Context) -> ValuesResult:
        """Handler of `hub.values`."""
        found: dict[str, dict[str, msgspec.Raw]] = {}
        for component in params.components:
            local = self._local(component, params.object, params.names)
            if params.names is not None:
                local = {name: local[name] for name in params.names if name in local}
            if local:
                found[component] = raw(local)
        return ValuesResult(values=found)

    # -- ends and time ---------------------------------------------------------------------------

    def ended(self, component: str) -> None:
        """Its incarnation is over, and its volatile attributes with it."""
        for change in self._desk.volatile.end(component):
            self._signals.changed(change)

    @property
    def busy(self) -> bool:
        return self._desk.volatile.mortal

    def sweep(self) -> None:
        for change in self._desk.volatile.expire(self._clock.monotonic_s()):
            self._signals.changed(change)


def aggregate(how: str, members: Sequence[Mapping[str, bytes]]) -> dict[str, float]:
    """One number a name over all members that have one there (feature D05)."""
    numbers: dict[str, list[float]] = {}
    for attributes in members:
        for name, value in attributes.items():
            plain = codec.unpack_own(value)
            number = isinstance(plain, int | float) and not isinstance(plain, bool)
            if number or how == "count":
                numbers.setdefault(name, []).append(plain if number else 1)
    if how == "count":
        return {name: len(found) for name, found in numbers.items()}
    if how == "avg":
        return {name: sum(found) / len(found) for name, found in numbers.items()}
    choose: dict[str, Callable[[list[float]], float]] = {"sum": sum, "min": min, "max": max}
    return {name: choose[how](found) for name, found in numbers.items()}
