"""The life of a component (platform document §4.5.3; component API, "Life-cycle states").

    none → preparing → initializing → available ⇄ unavailable → [leaving →] stopping → destroying
               ↑            (any of them may end: → destroying)         destroyed, failed ←─┤
               └──────────────────────────── restart ───────────────────────────────────────┘

The document draws the happy path; ours are the crash edges (`exited`, from everywhere something
runs), the restart edge (destroying → preparing: the same component, its next incarnation), `failed`
(the controller gave up; its record stays, nothing of it is left on a node) and `offline`, which a
component never says of itself: its node cannot be reached.  A quick component goes from preparing
to available in one step, which saves a command of the log.
"""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class ComponentState(enum.StrEnum):
    NONE = "none"
    PREPARING = "preparing"
    INITIALIZING = "initializing"
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    LEAVING = "leaving"
    STOPPING = "stopping"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"
    FAILED = "failed"
    OFFLINE = "offline"


class ComponentEvent(enum.StrEnum):
    CREATE = "create"
    """It was accepted: nothing runs, and a node may still have to be chosen."""
    STARTED = "started"
    """Its container runs."""
    READY = "ready"
    """It takes requests (again)."""
    PAUSE = "pause"
    """It says that it cannot take requests for now."""
    LEAVE = "leave"
    """It is to end or to move, when those who send to it from outside have let go."""
    STAY = "stay"
    """It was only asked whether it will end, and will not."""
    STOP = "stop"
    """It was asked to end."""
    EXITED = "exited"
    """The incarnation is over; its container remains to be removed."""
    RESTART = "restart"
    """Nothing of the last incarnation is left; the next one begins."""
    GIVE_UP = "give_up"
    """Nothing is left, and the restart policy says no more."""
    CLEARED = "cleared"
    """Nothing is left, and nobody wants it any more."""
    LOST = "lost"
    """Its node cannot be reached."""
    FOUND = "found"
    """Its node is back, and it still runs."""


_S, _E = ComponentState, ComponentEvent

COMPONENT: Table[ComponentState, ComponentEvent] = Table(
    "component",
    ComponentState,
    _S.NONE,
    {
        _S.NONE: {_E.CREATE: _S.PREPARING},
        _S.PREPARING: {
            _E.STARTED: _S.INITIALIZING,
            _E.READY: _S.AVAILABLE,
            _E.EXITED: _S.DESTROYING,
        },
        _S.INITIALIZING: {
            _E.READY: _S.AVAILABLE,
            _E.STOP: _S.STOPPING,
            _E.EXITED: _S.DESTROYING,
            _E.LOST: _S.OFFLINE,
        },
        _S.AVAILABLE: {
            _E.PAUSE: _S.UNAVAILABLE,
            _E.LEAVE: _S.LEAVING,
            _E.STOP: _S.STOPPING,
            _E.EXITED: _S.DESTROYING,
            _E.LOST: _S.OFFLINE,
        },
        _S.UNAVAILABLE: {
            _E.READY: _S.AVAILABLE,
            _E.LEAVE: _S.LEAVING,
            _E.STOP: _S.STOPPING,
            _E.EXITED: _S.DESTROYING,
            _E.LOST: _S.OFFLINE,
        },
        _S.LEAVING: {
            _E.STAY: _S.AVAILABLE,
            _E.STOP: _S.STOPPING,
            _E.EXITED: _S.DESTROYING,
            _E.LOST: _S.OFFLINE,
        },
        _S.STOPPING: {_E.EXITED: _S.DESTROYING},
        _S.DESTROYING: {
            _E.RESTART: _S.PREPARING,
            _E.GIVE_UP: _S.FAILED,
            _E.CLEARED: _S.DESTROYED,
        },
        _S.DESTROYED: {},
        _S.FAILED: {_E.CLEARED: _S.DESTROYED},
        _S.OFFLINE: {_E.FOUND: _S.UNAVAILABLE, _E.STOP: _S.STOPPING, _E.EXITED: _S.DESTROYING},
    },
)

ENDED = frozenset({_S.DESTROYED, _S.FAILED})
"""Ended for good: nothing runs, nothing will."""

STARTING = frozenset({_S.PREPARING, _S.INITIALIZING})
RUNNING = frozenset({_S.INITIALIZING, _S.AVAILABLE, _S.UNAVAILABLE, _S.LEAVING, _S.OFFLINE})
"""Those that can be asked to stop."""

PRESENT = RUNNING | {_S.PREPARING, _S.STOPPING}
"""Those with an incarnation whose end is still to come."""
