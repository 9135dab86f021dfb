"""The life of a node (platform document §4.5.2).

The document's states; `failed` follows `offline` after a time, and a node that was thought lost may
come back from either, which the document leaves open.

A node is *present* while it may run components.  One that is present and is removed passes through
`destroying`, in which it may do so no more but perhaps still does: only its own word that it is
empty, or the end of its lease, makes it `destroyed`.
"""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class NodeState(enum.StrEnum):
    NONE = "none"
    ACQUIRING = "acquiring"
    ACQUIRING_FAILED = "acquiring-failed"
    PREPARING = "preparing"
    PREPARING_FAILED = "preparing-failed"
    INITIALIZING = "initializing"
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    OFFLINE = "offline"
    FAILED = "failed"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class NodeEvent(enum.StrEnum):
    ACQUIRE = "acquire"
    """A machine is asked for."""
    BOOT = "boot"
    """The machine was granted, or an owned one was switched on."""
    REFUSE = "refuse"
    """The provider does not grant it, or it does not boot."""
    JOIN = "join"
    """Its first agents run."""
    READY = "ready"
    """All its agents run: components can be created on it."""
    MARK_UNAVAILABLE = "mark_unavailable"
    """A person takes it out of use."""
    MARK_AVAILABLE = "mark_available"
    """A person gives it back to use."""
    LOSE = "lose"
    """Its lease is over: nothing runs on it."""
    GIVE_UP = "give_up"
    """It has not answered for too long."""
    DESTROY = "destroy"
    """A person removes it."""
    CLEARED = "cleared"
    """Nothing of it runs any more; the machine may be switched off, or given back."""


_S, _E = NodeState, NodeEvent

NODE: Table[NodeState, NodeEvent] = Table(
    "node",
    NodeState,
    _S.NONE,
    {
        _S.NONE: {_E.ACQUIRE: _S.ACQUIRING, _E.BOOT: _S.PREPARING, _E.JOIN: _S.INITIALIZING},
        _S.ACQUIRING: {_E.BOOT: _S.PREPARING, _E.REFUSE: _S.ACQUIRING_FAILED},
        _S.ACQUIRING_FAILED: {_E.CLEARED: _S.DESTROYED},
        _S.PREPARING: {
            _E.JOIN: _S.INITIALIZING,
            _E.REFUSE: _S.PREPARING_FAILED,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.PREPARING_FAILED: {_E.DESTROY: _S.DESTROYING},
        _S.INITIALIZING: {
            _E.JOIN: _S.INITIALIZING,
            _E.READY: _S.AVAILABLE,
            _E.MARK_UNAVAILABLE: _S.UNAVAILABLE,
            _E.LOSE: _S.OFFLINE,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.AVAILABLE: {
            _E.JOIN: _S.INITIALIZING,
            _E.MARK_UNAVAILABLE: _S.UNAVAILABLE,
            _E.LOSE: _S.OFFLINE,
        },
        _S.UNAVAILABLE: {
            _E.JOIN: _S.INITIALIZING,
            _E.READY: _S.UNAVAILABLE,
            _E.MARK_AVAILABLE: _S.AVAILABLE,
            _E.LOSE: _S.OFFLINE,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.OFFLINE: {
            _E.JOIN: _S.INITIALIZING,
            _E.GIVE_UP: _S.FAILED,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.FAILED: {_E.JOIN: _S.INITIALIZING, _E.DESTROY: _S.DESTROYING},
        _S.DESTROYING: {_E.CLEARED: _S.DESTROYED, _E.LOSE: _S.DESTROYED},
        _S.DESTROYED: {},
    },
)
"""A node whose agents start again, after a crash or a reboot, joins again from wherever it was."""

PRESENT = frozenset({_S.INITIALIZING, _S.AVAILABLE, _S.UNAVAILABLE})
"""It is in touch, and components may run on it."""

LEASED = PRESENT | {_S.DESTROYING}
"""Components may run on it, or may not have ended yet: the end of its lease decides something."""
