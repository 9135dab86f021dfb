"""The registry of component instances: one record each, found by id, by unique prefix, or by name.

Invariants
  - A name belongs to at most one component that has not ended for good; it is free again after.
  - A record outlives its component for a bounded time and in bounded number (limits), oldest first,
    so that monitors, `paas ps --all` and "why" work after the end; then it is forgotten.
  - Ids are derived from the command's seed, never drawn, so all replicas derive the same ones.

Platform document §4.6.3 ("instance registry") and §4.7.4 (identifiers).
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from paas.base import ids
from paas.base.errors import PlatformError, invalid
from paas.controller import limits
from paas.controller.lifecycle import ENDED, ComponentState
from paas.controller.messages import ComponentInfo
from paas.controller.restarts import Outcome, Policy

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)


class Instance(msgspec.Struct, kw_only=True):
    """What the cluster knows about one component.  Times in milliseconds since the Unix epoch."""

    id: str
    type: str
    name: str
    node: str
    """Where it is; empty while it waits for a node."""
    created_ms: int
    since_ms: int
    created_by: str = ""
    state: ComponentState = ComponentState.NONE
    incarnation: int = 1
    """Which life it is in; an end belongs to exactly one."""
    restarts: int = 0
    reason: str = ""
    """Why it last ended, paused or failed."""
    because: str = ""
    """The linked component whose end ended this one."""
    gave_up: str = ""
    facts: dict[str, Any] = {}
    """What the kernel said at the last end."""
    restart: str = "permanent"
    max_restarts: int = 5
    within_s: float = 60.0
    configuration: dict[str, Any] = {}
    groups: list[str] = []
    constraints: list[str] = []
    wanted: bool = True
    """False once somebody destroyed it, or it agreed to terminate; never true again."""
    mode: str = ""
    """How it is to end: `destroy`, `terminate`, `linked` or `move`."""
    moving: bool = False
    """Its next incarnation begins without a node."""
    unplaced: str = ""
    """Why no node has been found for it."""
    grace_s: float = 0.0
    outcome: Outcome = Outcome.END
    """What follows `destroying`."""
    endpoints: dict[str, Any] = {}
    ready_ms: int = 0
    """When this incarnation first became available; 0 if it has not yet."""
    ready_once: bool = False
    """Has any incarnation been available?"""
    ends_ms: list[int] = []
    attempt: int = 0
    unready: int = 0
    not_before_ms: int = 0
    """The next incarnation does not start before."""
    delay_s: float = 0.0
    resized: dict[str, Any] = {}
    """Bounds of its own, in place of those of its type's manifest (bounds.py)."""
    frozen: bool = False
    """It is to stand still, in this incarnation and the next ones, until somebody thaws it."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def newest(self) -> int:
        """The newest incarnation: one that runs, or the one that comes next."""
        restarts = self.state is ComponentState.DESTROYING and self.outcome is Outcome.RESTART
        return self.incarnation + 1 if restarts else self.incarnation

    def is_over(self, incarnation: int) -> bool:
        """Has this incarnation ended, or will it never be?"""
        clearing = self.state is ComponentState.DESTROYING and self.outcome is not Outcome.RESTART
        return self.ended or clearing or incarnation < self.newest

    @property
    def short(self) -> str:
        return self.id[:8]

    @property
    def policy(self) -> Policy:
        return Policy(restart=self.restart, max_restarts=self.max_restarts, within_s=self.within_s)


def derived_id(type_name: str, seed: bytes, counter: int) -> ids.Id:
    """The identifier number `counter` of the command with this seed."""
    digest = hashlib.sha256(seed + counter.to_bytes(8, "big")).digest()
    return ids.component_id(type_name, digest[: ids.UNIQUE_BYTES])


def check_name(name: str) -> None:
    """Raise `invalid` for a name that could not be a host name or would look like an id."""
    if len(name) > limits.NAME_LENGTH_MAX or not _NAME.fullmatch(name):
        raise invalid(
            "name",
            f"expected at most {limits.NAME_LENGTH_MAX} letters, digits, '-', '_' and '.',"
            " beginning and ending with a letter or digit",
            param="name",
        )
    if ids.is_prefix(name):
        raise invalid("name", "expected a name that does not look like an identifier", param="name")


def names_for(name: str, count: int) -> list[str]:
    """The names of `count` new components: name, or name-1, name-2, …; all empty without a name."""
    if not name or count == 1:
        return [name] * count
    return [f"{name}-{number}" for number in range(1, count + 1)]


class Instances:
    """All records, in the order of creation."""

    def __init__(self) -> None:
        self._all: dict[str, Instance] = {}
        self._names: dict[str, str] = {}  # name -> the one that has not ended for good
        self._ended: dict[str, None] = {}  # in the order of their ends

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, component: str) -> bool:
        return component in self._all

    def get(self, component: str) -> Instance | None:
        return self._all.get(component)

    def living(self) -> int:
        """How many have not ended for good."""
        return len(self._all) - len(self._ended)

    def holder(self, name: str) -> str | None:
        """Who has the name now."""
        return self._names.get(name)

    def add(self, instance: Instance) -> None:
        self._all[instance.id] = instance
        if instance.name:
            self._names[instance.name] = instance.id

    def end(self, instance: Instance) -> None:
        """It has ended for good: its name is free, its record will be dropped one day."""
        self._ended[instance.id] = None
        if self._names.get(instance.name) == instance.id:
            del self._names[instance.name]

    def overdue(self, now_ms: int) -> list[Instance]:
        """Ended ones that are not remembered any longer: too many, or too old."""
        excess = len(self._ended) - limits.ENDED_KEPT_MAX
        oldest_ms = now_ms - int(limits.ENDED_KEPT_S * 1000)
        found = []
        for number, component in enumerate(self._ended):
            instance = self._all[component]
            if number >= excess and instance.since_ms >= oldest_ms:
                break
            found.append(instance)
        return found

    def forget(self, instance: Instance) -> None:
        del self._all[instance.id]
        self._ended.pop(instance.id, None)

    # -- finding ---------------------------------------------------------------------------------

    def resolve(self, target: str) -> Instance:
        """By id, unique beginning of an id (8 digits or more), or name; raises `no-such-target`."""
        if target in self._all:
            return self._all[target]
        if target in self._names:
            return self._all[self._names[target]]
        if ids.is_prefix(target):
            found = [i for i in self._all.values() if i.id.startswith(target)]
            living = [i for i in found if not i.ended] or found
            if len(living) == 1:
                return living[0]
            if living:
                raise PlatformError(
                    "conflict",
                    f"{len(living)} components begin with {target}",
                    hint="give more digits",
                    components=[i.id for i in living[:10]],
                )
        ended = [self._all[c] for c in self._ended if self._all[c].name == target and target]
        if ended:
            return ended[-1]
        raise self._no_such_target(target)

    def _no_such_target(self, target: str) -> PlatformError:
        shown = target if len(target) <= 64 else target[:64] + "…"
        close = difflib.get_close_matches(
            target[:64], self._names, n=limits.SUGGESTIONS_MAX, cutoff=0.6
        )
        return PlatformError(
            "no-such-target",
            f"no component has the identifier or name {shown!r}",
            hint=f"did you mean {close[0]!r}?  list them: paas ps" if close else "",
            did_you_mean=close,
        )

    def of_type(self, full_name: str) -> int:
        """How many components of a type have not ended for good."""
        return sum(1 for i in self._all.values() if i.type == full_name and not i.ended)

    def snapshot(self) -> Any:
        """The instances as they are: as dictionaries they would take many times the memory until
        they are encoded.
        """
        return {"all": list(self._all.values()), "ended": list(self._ended)}

    def restore(self, plain: Any) -> None:
        instances = [msgspec.convert(item, Instance) for item in plain["all"]]
        self._all = {instance.id: instance for instance in instances}
        self._ended = dict.fromkeys(plain["ended"])
        self._names = {i.name: i.id for i in instances if i.name and i.id not in self._ended}


# -- views ---------------------------------------------------------------------------------------


def check_filter(wanted: Mapping[str, str]) -> None:
    for key in wanted:
        if key not in limits.FILTER_KEYS:
            expected = ", ".join(limits.FILTER_KEYS)
            raise invalid("filter", f"expected only {expected}, got {key!r}", param="filter")


def matches(instance: Instance, groups: list[str], wanted: Mapping[str, str]) -> bool:
    """Does the component pass the filter of `controller.components`?"""
    bare = instance.type.partition("@")[0]
    facts = {
        "type": {instance.type, bare},
        "group": set(groups),
        "name": {instance.name},
        "state": {str(instance.state)},
        "node": {instance.node},
    }
    return all(value in facts[key] for key, value in wanted.items())


def info(
    instance: Instance,
    *,
    groups: list[str],
    links: list[str],
    memory: int | None = None,
    pid: int | None = None,
) -> ComponentInfo:
    """One line of `controller.components`."""
    return ComponentInfo(
        id=instance.id,
        name=instance.name,
        type=instance.type,
        state=str(instance.state),
        since=instance.since_ms / 1000,
        node=instance.node,
        restarts=instance.restarts,
        reason=instance.unplaced or instance.reason,
        endpoints=instance.endpoints,
        groups=groups,
        links=links,
        restart=instance.restart,
        created=instance.created_ms / 1000,
        memory=memory,
        pid=pid,
    )
