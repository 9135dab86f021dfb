"""What a harness knows of its component, and of its hub, as tables (platform document §4.6.2).

`COMPONENT` has the phases that the hub is told.  A program that knows nothing of the platform
(protocol `none`) is ready as soon as it is executed.  `UPLINK` is the way to the hub: requests
travel only when a hub has accepted the greeting.
"""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class Phase(enum.StrEnum):
    INITIALIZING = "initializing"
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"
    EXITED = "exited"


class PhaseEvent(enum.StrEnum):
    READY = "ready"
    MARK_UNAVAILABLE = "mark_unavailable"
    MARK_AVAILABLE = "mark_available"
    STOP = "stop"
    EXIT = "exit"


_P, _E = Phase, PhaseEvent

COMPONENT: Table[Phase, PhaseEvent] = Table(
    "component phase",
    Phase,
    _P.INITIALIZING,
    {
        _P.INITIALIZING: {_E.READY: _P.AVAILABLE, _E.STOP: _P.STOPPING, _E.EXIT: _P.EXITED},
        _P.AVAILABLE: {
            _E.MARK_UNAVAILABLE: _P.UNAVAILABLE,
            _E.STOP: _P.STOPPING,
            _E.EXIT: _P.EXITED,
        },
        _P.UNAVAILABLE: {
            # `ready` again: a component whose connection was lost is back on another one.
            _E.READY: _P.AVAILABLE,
            _E.MARK_AVAILABLE: _P.AVAILABLE,
            _E.STOP: _P.STOPPING,
            _E.EXIT: _P.EXITED,
        },
        _P.STOPPING: {_E.EXIT: _P.EXITED},
        _P.EXITED: {},
    },
)


class UplinkState(enum.StrEnum):
    DISCONNECTED = "disconnected"
    GREETING = "greeting"
    ATTACHED = "attached"


class UplinkEvent(enum.StrEnum):
    CONNECT = "connect"
    ACCEPT = "accept"
    LOSE = "lose"


UPLINK: Table[UplinkState, UplinkEvent] = Table(
    "way to the hub",
    UplinkState,
    UplinkState.DISCONNECTED,
    {
        UplinkState.DISCONNECTED: {UplinkEvent.CONNECT: UplinkState.GREETING},
        UplinkState.GREETING: {
            UplinkEvent.ACCEPT: UplinkState.ATTACHED,
            UplinkEvent.LOSE: UplinkState.DISCONNECTED,
        },
        UplinkState.ATTACHED: {UplinkEvent.LOSE: UplinkState.DISCONNECTED},
    },
)
