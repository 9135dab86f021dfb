"""The life of a module: agent, component, service or resource, alone or in a peer-to-peer cluster.

    independent   none → preparing → initializing → available ⇄ unavailable
                       → stopping → destroying → destroyed
    clustered     the same with joining before available, leaving before stopping, and offline,
                  which only others can see: they have lost contact and do not know more

Source: platform document §4.5.3, with its states.  It draws the happy path; the edges for ends that
nobody asked for are ours: from any state in which a process runs, EXITED leads to destroying, since
what the module held must be released in the same way.  A module joins and leaves at most once (its
rule): no way leads back before available.
"""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class Module(enum.StrEnum):
    """States of an independent module."""

    NONE = "none"
    PREPARING = "preparing"
    INITIALIZING = "initializing"
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class ClusteredModule(enum.StrEnum):
    """States of a module with peers."""

    NONE = "none"
    PREPARING = "preparing"
    INITIALIZING = "initializing"
    JOINING = "joining"
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    OFFLINE = "offline"
    LEAVING = "leaving"
    STOPPING = "stopping"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class ModuleEvent(enum.StrEnum):
    """What moves a module; the last four only a clustered one."""

    START = "start"
    PROCESS_STARTED = "process-started"
    READY = "ready"
    MARK_UNAVAILABLE = "mark-unavailable"
    MARK_AVAILABLE = "mark-available"
    STOP = "stop"
    EXITED = "exited"
    CLEARED = "cleared"
    JOINED = "joined"
    LEFT = "left"
    CONTACT_LOST = "contact-lost"
    CONTACT_FOUND = "contact-found"


M, C, E = Module, ClusteredModule, ModuleEvent

INDEPENDENT: Table[Module, ModuleEvent] = Table(
    "independent module",
    Module,
    M.NONE,
    {
        M.NONE: {E.START: M.PREPARING},
        # Stopped or failed before a process ran: only what was prepared has to be released.
        M.PREPARING: {
            E.PROCESS_STARTED: M.INITIALIZING,
            E.STOP: M.DESTROYING,
            E.EXITED: M.DESTROYING,
        },
        M.INITIALIZING: {E.READY: M.AVAILABLE, E.STOP: M.STOPPING, E.EXITED: M.DESTROYING},
        M.AVAILABLE: {
            E.MARK_UNAVAILABLE: M.UNAVAILABLE,
            E.STOP: M.STOPPING,
            E.EXITED: M.DESTROYING,
        },
        M.UNAVAILABLE: {
            E.MARK_AVAILABLE: M.AVAILABLE,
            E.STOP: M.STOPPING,
            E.EXITED: M.DESTROYING,
        },
        M.STOPPING: {E.EXITED: M.DESTROYING},
        M.DESTROYING: {E.CLEARED: M.DESTROYED},
        M.DESTROYED: {},
    },
)

CLUSTERED: Table[ClusteredModule, ModuleEvent] = Table(
    "clustered module",
    ClusteredModule,
    C.NONE,
    {
        C.NONE: {E.START: C.PREPARING},
        C.PREPARING: {
            E.PROCESS_STARTED: C.INITIALIZING,
            E.STOP: C.DESTROYING,
            E.EXITED: C.DESTROYING,
        },
        C.INITIALIZING: {E.READY: C.JOINING, E.STOP: C.STOPPING, E.EXITED: C.DESTROYING},
        # One that could not join has nothing to leave: it stops at once (§4.5.3).
        C.JOINING: {E.JOINED: C.AVAILABLE, E.STOP: C.STOPPING, E.EXITED: C.DESTROYING},
        C.AVAILABLE: {
            E.MARK_UNAVAILABLE: C.UNAVAILABLE,
            E.CONTACT_LOST: C.OFFLINE,
            E.STOP: C.LEAVING,
            E.EXITED: C.DESTROYING,
        },
        C.UNAVAILABLE: {
            E.MARK_AVAILABLE: C.AVAILABLE,
            E.CONTACT_LOST: C.OFFLINE,
            E.STOP: C.LEAVING,
            E.EXITED: C.DESTROYING,
        },
        # Found again it counts as unavailable until it says otherwise: what it was before may have
        # changed unseen.  EXITED is the verdict of those who waited long enough.
        C.OFFLINE: {E.CONTACT_FOUND: C.UNAVAILABLE, E.EXITED: C.DESTROYING},
        C.LEAVING: {E.LEFT: C.STOPPING, E.CONTACT_LOST: C.OFFLINE, E.EXITED: C.DESTROYING},
        C.STOPPING: {E.EXITED: C.DESTROYING},
        C.DESTROYING: {E.CLEARED: C.DESTROYED},
        C.DESTROYED: {},
    },
)

_PEERLESS = {
    ClusteredModule.JOINING: Module.INITIALIZING,
    ClusteredModule.LEAVING: Module.STOPPING,
    ClusteredModule.OFFLINE: Module.UNAVAILABLE,
}


def without_peers(state: ClusteredModule) -> Module:
    """The state for those who do not care for peers: joining is initializing still (§4.5.3)."""
    return _PEERLESS.get(state) or Module(state.value)
