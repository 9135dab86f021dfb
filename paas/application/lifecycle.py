"""The life of an application (platform document §4.5.1, "applications").

    none → deploying → available ⇄ degraded
               ↑ └──────────┴────────┴──→ stopping → stopped
               └─────────────────────────────┴──────────┘
           (all of them) → destroying → destroyed

`deploy` is every change of what is wanted: a new specification, another count, a start.  The
controller says `settled` when nothing is left to do, and `lost` when something of it is missing
later; members that are restarted on their nodes are no loss.
"""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class ApplicationState(enum.StrEnum):
    NONE = "none"
    DEPLOYING = "deploying"
    AVAILABLE = "available"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class ApplicationEvent(enum.StrEnum):
    DEPLOY = "deploy"
    """Something else is wanted from now on."""
    SETTLED = "settled"
    """What is wanted is there, and nothing more."""
    LOST = "lost"
    """Something that is wanted is missing again."""
    STOP = "stop"
    """Its members are to end; what was wanted stays known."""
    DESTROY = "destroy"
    """All of it is to go."""
    CLEARED = "cleared"
    """Nothing is left of it."""


_S, _E = ApplicationState, ApplicationEvent

APPLICATION: Table[ApplicationState, ApplicationEvent] = Table(
    "application",
    ApplicationState,
    _S.NONE,
    {
        _S.NONE: {_E.DEPLOY: _S.DEPLOYING},
        _S.DEPLOYING: {
            _E.DEPLOY: _S.DEPLOYING,
            _E.SETTLED: _S.AVAILABLE,
            _E.STOP: _S.STOPPING,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.AVAILABLE: {
            _E.DEPLOY: _S.DEPLOYING,
            _E.LOST: _S.DEGRADED,
            _E.STOP: _S.STOPPING,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.DEGRADED: {
            _E.DEPLOY: _S.DEPLOYING,
            _E.SETTLED: _S.AVAILABLE,
            _E.STOP: _S.STOPPING,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.STOPPING: {
            _E.DEPLOY: _S.DEPLOYING,
            _E.SETTLED: _S.STOPPED,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.STOPPED: {
            _E.DEPLOY: _S.DEPLOYING,
            _E.LOST: _S.STOPPING,
            _E.DESTROY: _S.DESTROYING,
        },
        _S.DESTROYING: {_E.CLEARED: _S.DESTROYED},
        _S.DESTROYED: {},
    },
)

RUNS = frozenset({_S.DEPLOYING, _S.AVAILABLE, _S.DEGRADED})
"""Its members are wanted."""

UNDER_WAY = frozenset({_S.DEPLOYING, _S.DEGRADED, _S.STOPPING, _S.DESTROYING})
"""There is something to do, or to say when it is done."""
