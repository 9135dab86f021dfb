"""Bounds of attributes, signals and watches, and how they relate."""

from paas.base.limits import FRAME_BYTES_MAX, OUTBOX_BYTES_MAX
from paas.raft.limits import COMMAND_BYTES_MAX

NAME_LENGTH_MAX = 128
"""Characters of the name of an attribute, an object or a signal."""

VALUE_BYTES_MAX = 64 << 10
"""One volatile value, and the payload of a signal."""

DURABLE_CHANGE_BYTES_MAX = 28 << 10
"""Names and values of one change of durable attributes, and so each of the values: a change is one
command of the log."""

NAMES_MAX = 256
"""Names of one object."""

OBJECTS_MAX = 64
"""Objects of one component that have attributes."""

DURABLE_BYTES_MAX = 1 << 20
"""Durable attributes of one component."""

DURABLE_CLUSTER_BYTES_MAX = 64 << 20
"""Durable attributes of all components; they are in memory on every node."""

VOLATILE_BYTES_MAX = 256 << 10
"""Volatile attributes of one component."""

VOLATILE_NODE_BYTES_MAX = 64 << 20
"""Volatile attributes of the components of one node."""

ENTRY_BYTES = 64
"""What a name costs beside its letters and its value."""

TTL_S_MAX = 7 * 86_400.0

HISTORY_EVENTS_MAX = 10_000
"""Events of the log that a hub remembers, for watches that are opened again."""

HISTORY_BYTES_MAX = 8 << 20

WATCH_BYTES_MAX = OUTBOX_BYTES_MAX // 4
"""Bytes queued towards a watcher before its events are dropped and counted.  It gets the state, or
the number of what it missed, once half of them have left."""

INTEREST_TOPICS_MAX = 100_000
"""Different things that the watchers of one hub want to hear of from other hubs."""

INTEREST_BATCH = 1_000
"""Topics in one message between hubs."""

HELD_EVENTS_MAX = 1_000
"""Events kept for one watch while its snapshot is fetched from other nodes."""

VALUES_TIMEOUT_S = 2.0
"""How long another hub may take to say its volatile attributes."""

SWEEP_PERIOD_S = 0.05
"""How often slow watchers and times to live are looked at, while there are any."""

assert DURABLE_CHANGE_BYTES_MAX + 2_048 < COMMAND_BYTES_MAX, "a change with its stamp is a command"
assert VALUE_BYTES_MAX * 4 <= FRAME_BYTES_MAX
assert WATCH_BYTES_MAX + FRAME_BYTES_MAX < OUTBOX_BYTES_MAX, "a snapshot must not cut a watcher off"
