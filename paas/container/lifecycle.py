"""The life of a container on one node (platform document §4.5.3, §4.6.4).

A container is `exited` until somebody destroys it: its facts must not be lost with it.  A restarted
controller adopts: what runs becomes `running`, what ended meanwhile `exited`, what was half made or
half removed `destroying`.
"""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class ContainerState(enum.StrEnum):
    NONE = "none"
    PREPARING = "preparing"
    RUNNING = "running"
    EXITED = "exited"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class ContainerEvent(enum.StrEnum):
    PREPARE = "prepare"
    STARTED = "started"
    EXIT = "exit"
    DESTROY = "destroy"
    CLEARED = "cleared"
    ADOPT_RUNNING = "adopt_running"
    ADOPT_EXITED = "adopt_exited"
    ABANDON = "abandon"


_S, _E = ContainerState, ContainerEvent

CONTAINER: Table[ContainerState, ContainerEvent] = Table(
    "container",
    ContainerState,
    _S.NONE,
    {
        _S.NONE: {
            _E.PREPARE: _S.PREPARING,
            _E.ADOPT_RUNNING: _S.RUNNING,
            _E.ADOPT_EXITED: _S.EXITED,
            _E.ABANDON: _S.DESTROYING,
        },
        _S.PREPARING: {_E.STARTED: _S.RUNNING, _E.DESTROY: _S.DESTROYING},
        _S.RUNNING: {_E.EXIT: _S.EXITED, _E.DESTROY: _S.DESTROYING},
        _S.EXITED: {_E.DESTROY: _S.DESTROYING},
        _S.DESTROYING: {_E.CLEARED: _S.DESTROYED},
        _S.DESTROYED: {},
    },
)
