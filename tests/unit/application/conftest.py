"""The cluster state with components and applications, driven by commands; the real sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio

from paas.application import commands
from paas.application.records import Application
from paas.application.specification import Role, Specification, member_name, role_group
from paas.application.state import ApplicationsState, Birth, creator
from paas.controller.commands import ChangeInstance, CreateInstances, EndInstance, RegisterType
from paas.controller.state import ControllerState
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine

TIME_MS = 1_700_000_000_000


def manifest(name: str, version: str) -> dict[str, Any]:
    return {"component": {"name": name, "version": version, "command": ["./run"]}}


class Cluster:
    """One replica; implements `application.ports.Log` as well."""

    def __init__(self) -> None:
        self.controller, self.applications = ControllerState(), ApplicationsState()
        self.machine = Machine([self.controller, self.applications])
        self.entries: list[bytes] = []
        self.subscribers: list[Callable[[int, Sequence[Any]], None]] = []
        self.time_ms = TIME_MS
        for version in ("1", "2"):
            for name in ("web", "store", "job"):
                self.apply(RegisterType(bundle=name + version, manifest=manifest(name, version)))

    def apply(self, command: msgspec.Struct) -> Any:
        """What became of a command; raises what it was refused with."""
        index = len(self.entries) + 1
        seed = index.to_bytes(SEED_BYTES, "big")
        self.entries.append(encode(command, Stamp(self.time_ms, seed, "n1", index)))
        applied = self.machine.apply(index, self.entries[-1])
        for subscriber in list(self.subscribers):
            subscriber(index, applied.events)
        if applied.error is not None:
            raise applied.error
        return applied.result

    # -- as a log --------------------------------------------------------------------------------

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.lowlevel.checkpoint()
        return self.apply(command)

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        await trio.lowlevel.checkpoint()

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def applied(self) -> int:
        return len(self.entries)

    # -- applications ----------------------------------------------------------------------------

    @property
    def shop(self) -> Application:
        return self.applications.applications["shop"]

    def deploy(self, *roles: Role, if_revision: int = -1, **more: Any) -> Any:
        wanted = Specification(name="shop", roles=roles, **more)
        return self.apply(commands.DeployApplication(specification=wanted, if_revision=if_revision))

    def born(
        self,
        role: str,
        slot: int,
        *,
        available: bool = True,
        application: Any = None,
        request: str = "",
    ) -> str:
        """A member, as the reconciler asks for it."""
        known: Application = application or self.shop
        wanted = known.specification.role(role)
        assert wanted is not None
        order = CreateInstances(
            type=wanted.type,
            nodes=["n1"],
            name=member_name(known.name, role, slot),
            groups=[role_group(known.name, role)],
            restart=wanted.restart,
            request_id=request or known.birth_request(role, slot),
            created_by=creator(Birth(known.name, role, slot, wanted.digest)),
        )
        result = self.apply(order)
        component: str = result["components"][0]
        if available and not result["repeated"]:
            self.change(component, "ready")
        return component

    def change(self, component: str, event: str, reason: str = "", *, fatal: bool = False) -> None:
        instance = self.controller.instances.get(component)
        assert instance is not None
        self.apply(
            ChangeInstance(
                component=component,
                incarnation=instance.incarnation,
                event=event,
                reason=reason,
                fatal=fatal,
            )
        )

    def end(self, component: str) -> None:
        """It is told to end, and does."""
        self.apply(EndInstance(component=component))
        self.change(component, "exited")
        self.change(component, "cleared")


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()
