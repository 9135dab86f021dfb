"""Who may talk to whom: the rule of the two manifests, applied to every message of a component.

    caller's hub  check            types of both; is the target in a group that the caller requires?
    target's hub  check_forwarded  types of both; does the caller live on the node that forwards?

The rule itself is in `paas.bundle.manifest_terms`; here it is asked with components.  Operators,
who have no component, may call everything.  The terms of a pair of types are compiled once and
kept until a type is registered or removed; there are as many as pairs of types that talk, whatever
names of operations callers come up with.  What a hostile hub forwards is checked again where it
arrives: it can speak for components of its own node only, and for them no more than their types
may.  Membership of groups is not asked there, since the two replicas need not be equally far.

Routes of gateways are grants besides (`Grants`): they need no word in any manifest.

Watching attributes and signals of others follows the same rule, with the pseudo operations
`attributes` and `signals`; so does the network path to an endpoint, with `endpoints`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from paas.base.errors import PlatformError
from paas.bundle.manifest import Manifest
from paas.bundle.manifest_terms import NOTHING, Terms, between
from paas.hub import limits
from paas.hub.messages import Side, Verdict

ATTRIBUTES = "attributes"
SIGNALS = "signals"
"""Pseudo operations, for watching."""


class Types(Protocol):
    """What the cluster state says about components and their types."""

    def type_of(self, component: str) -> str:
        """The full name of its type; empty when the component is not known."""
        ...

    def manifest_of(self, kind: str) -> Manifest | None:
        """The manifest of a registered type."""
        ...

    def node(self, component: str) -> str:
        """Where it is; empty if nowhere."""
        ...

    def in_one_of(self, groups: frozenset[str], component: str) -> bool:
        """Is it a member of any of these groups?"""
        ...

    def groups_of(self, component: str) -> list[str]: ...


class Rights(Protocol):
    """What the router asks.  `caller` is empty for an operator."""

    def allows(self, caller: str, target: str, operation: str, object_name: str) -> bool: ...

    def check(self, caller: str, target: str, operation: str, object_name: str) -> None:
        """Raises `denied`."""
        ...

    def check_forwarded(
        self, node: str, caller: str, target: str, operation: str, object_name: str
    ) -> None:
        """For what the hub of `node` passes on (empty: of a mailbox, whose sender lives anywhere).

        Raises `denied`, or `not-available` for a caller that is not known here yet.
        """
        ...


class Grants(Protocol):
    """What the cluster's state allows to pairs of components, whatever their manifests say."""

    def granted(self, caller: str, target: str, operation: str) -> bool: ...


class NoGrants:
    """There are none."""

    def granted(self, caller: str, target: str, operation: str) -> bool:
        return False


class Unrestricted:
    """Everybody may everything: a hub without types, for tests of other parts."""

    def allows(self, caller: str, target: str, operation: str, object_name: str) -> bool:
        return True

    def check(self, caller: str, target: str, operation: str, object_name: str) -> None:
        pass

    def check_forwarded(
        self, node: str, caller: str, target: str, operation: str, object_name: str
    ) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Missing:
    """Which of the two sides does not say yes."""

    exposes: bool
    requires: bool


class Authorisation:
    """See the module's text."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self.grants: Grants = NoGrants()
        self._terms: dict[tuple[str, str], Terms] = {}  # by type
        self._pairs: dict[tuple[str, str], Terms] = {}  # by component: short cuts

    def forget(self) -> None:
        """Types have changed."""
        self._terms.clear()
        self._pairs.clear()

    # -- the rule --------------------------------------------------------------------------------

    def allows(self, caller: str, target: str, operation: str, object_name: str) -> bool:
        if not caller:
            return True
        terms = self._pairs.get((caller, target)) or self._between(caller, target)
        if terms.same_application:
            return True
        return (
            terms.exposes(operation, object_name)
            and self._types.in_one_of(terms.groups(operation), target)
        ) or self.grants.granted(caller, target, operation)

    def check(self, caller: str, target: str, operation: str, object_name: str) -> None:
        if not self.allows(caller, target, operation, object_name):
            raise self._denied(caller, target, operation, object_name)

    def check_forwarded(
        self, node: str, caller: str, target: str, operation: str, object_name: str
    ) -> None:
        if not caller:
            return
        home = self._types.node(caller)
        if not self._types.type_of(caller):
            text = f"the caller {caller[:8]} is not known here, or not yet"
            raise PlatformError("not-available", text, component=target)
        if node and home != node:
            text = f"the hub of {node} speaks for a component that is on {home or 'no node'}"
            raise PlatformError("denied", text, caller=caller, component=target)
        terms = self._pairs.get((caller, target)) or self._between(caller, target)
        if terms.same_application:
            return
        if not (
            (terms.exposes(operation, object_name) and terms.groups(operation))
            or self.grants.granted(caller, target, operation)
        ):
            raise self._denied(caller, target, operation, object_name)

    def _between(self, caller: str, target: str) -> Terms:
        kinds = (self._types.type_of(caller), self._types.type_of(target))
        terms = self._terms.get(kinds)
        if terms is None:
            asking, asked = (self._types.manifest_of(kind) for kind in kinds)
            terms = NOTHING if asking is None or asked is None else between(asking, asked)
            if len(self._terms) >= limits.TERMS_KEPT_MAX:
                self._terms.clear()
            self._terms[kinds] = terms
        if kinds[0] and kinds[1]:
            if len(self._pairs) >= limits.PAIRS_KEPT_MAX:
                self._pairs.clear()
            self._pairs[caller, target] = terms
        return terms

    # -- explanations ----------------------------------------------------------------------------

    def side(self, component: str) -> Side:
        """Who one of the two is."""
        kind = self._types.type_of(component)
        manifest = self._types.manifest_of(kind)
        application = "" if manifest is None else manifest.component.application
        return Side(component=component, type=kind, application=application)

    def explain(self, caller: str, target: str, operation: str, object_name: str) -> Verdict:
        """The answer with its reasons, and what each manifest lacks."""
        asked = self.side(target)
        if not caller:
            return _verdict(asked, allowed=True, reason="operators may call everything")
        asking = self.side(caller)
        terms = self._between(caller, target)
        if terms.same_application:
            text = f"both are of the application {asking.application}"
            return _verdict(asked, allowed=True, reason=text)
        if self.grants.granted(caller, target, operation):
            return _verdict(asked, allowed=True, reason="a route of a gateway allows it")
        missing = _Missing(
            exposes=not terms.exposes(operation, object_name),
            requires=not self._types.in_one_of(terms.groups(operation), target),
        )
        if not (missing.exposes or missing.requires):
            text = f"{asked.type} exposes it to {asking.application}, {asking.type} requires it"
            return _verdict(asked, allowed=True, reason=text)
        return Verdict(
            component=asked.component,
            type=asked.type,
            application=asked.application,
            allowed=False,
            reason=_reason(asking, asked, missing),
            add=self._lacking(asking, asked, operation, object_name, missing),
        )

    def _lacking(
        self, asking: Side, asked: Side, operation: str, object_name: str, missing: _Missing
    ) -> dict[str, str]:
        """Type to what is to be added to its manifest."""
        add = {}
        if missing.exposes and asked.type:
            objects = f'\nobjects = ["{object_name}"]' if object_name else ""
            add[asked.type] = (
                f'[exposes.{asking.application}]\noperations = ["{operation}"]{objects}\n'
                f'to = ["{asking.application}"]'
            )
        if missing.requires and asking.type:
            groups = self._types.groups_of(asked.component)
            add[asking.type] = (
                f'[requires.{asked.application}]\ngroup = "{groups[0] if groups else "…"}"\n'
                f'application = "{asked.application}"\noperations = ["{operation}"]'
            )
        return add

    def _denied(self, caller: str, target: str, operation: str, object_name: str) -> PlatformError:
        operation, object_name = operation[:128], object_name[:128]
        verdict = self.explain(caller, target, operation, object_name)
        asking = self.side(caller)
        add = verdict.add
        if verdict.allowed:  # the rule where it arrives is narrower for a while
            add = {}
        hint = "; ".join(
            f"add to the manifest of {kind}: {' '.join(text.split())}" for kind, text in add.items()
        )
        return PlatformError(
            "denied",
            f"{_named(asking)} may not call {operation!r} of {_named(verdict)}: {verdict.reason}",
            hint=hint,
            caller={"component": caller, "type": asking.type, "application": asking.application},
            target={
                "component": target,
                "type": verdict.type,
                "application": verdict.application,
            },
            operation=operation,
            add=add,
        )


def _named(side: Side | Verdict) -> str:
    return f"{side.component[:8]} ({side.type or 'unknown'}, application {side.application or '?'})"


def _verdict(side: Side, *, allowed: bool, reason: str) -> Verdict:
    return Verdict(
        component=side.component,
        type=side.type,
        application=side.application,
        allowed=allowed,
        reason=reason,
    )


def _reason(asking: Side, asked: Side, missing: _Missing) -> str:
    for side in (asking, asked):
        if not side.type:
            return f"the type of {side.component[:8]} is not known"
    reasons = []
    if missing.exposes:
        reasons.append(f"{asked.type} does not expose it to the application {asking.application}")
    if missing.requires:
        reasons.append(
            f"{asking.type} does not require it of a group that {asked.component[:8]} is in"
        )
    return ", and ".join(reasons)
