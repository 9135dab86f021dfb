"""Bounds of the command line and of a development cluster's supervisor, and how they relate."""

from __future__ import annotations

READY_TIMEOUT_S = 60.0
"""Time that a node gets to say that components can be created."""

STOP_TIMEOUT_S = 200.0
"""Time that a node gets to end its components and agents when asked, before it is killed."""

CLEANUP_TIMEOUT_S = 180.0
"""Time for removing what a killed node left in the kernel."""

REAP_PERIOD_S = 0.05
"""How often orphans are reaped while something else is waited for."""

DOWN_TIMEOUT_S = 400.0
"""Time that `paas down` gives a supervisor in all."""

RESTARTS_MAX = 10
RESTARTS_WITHIN_S = 60.0
"""A node controller that dies more often than this is not started again."""

RESTART_DELAY_S_FIRST = 0.1
RESTART_DELAY_S_MAX = 2.0

LOG_TAIL_BYTES = 2_000
"""How much of a log an error message quotes at most."""

LOG_BYTES_MAX = 4 << 20
"""A log above this becomes the old one when its process is started; one old one is kept."""

COMPLETION_CACHE_S = 60.0
COMPLETION_TIMEOUT_S = 0.15
"""Live names for completion are asked for at most this long, and kept for that long."""

IMAGE_TIMEOUT_S = 900.0
"""For a step that reads a whole image: some gigabytes, on slow disks."""

BUILD_LOG_LINES = 20
"""How much of what a build has said is quoted when it fails."""

UPLOAD_PIECE_BYTES = 1 << 20
"""Bytes of a bundle in one request; below the largest frame with room for the envelope."""

NODES_MAX = 9
"""Nodes of a development cluster on one machine at most."""

LISTEN_PORT = 7_420
"""Where the hub of a node listens for the hubs of others, unless another port is named."""

JOIN_PORT_STEP = 1
"""The port for those who want to join is that much above the one for hubs."""

JOIN_TIMEOUT_S = 60.0
"""Time for a node to be taken into a cluster, before it is started."""

TOKEN_LIFE_S = 600.0
"""How long a join token can be used, unless another time is asked for."""

SETTLE_TIMEOUT_S = 60.0
"""Time for all nodes to be available, and as many to vote as should, once all have started."""

SETTLE_PERIOD_S = 0.05
"""How often the cluster is asked whether it is so far."""

RESUME_PATIENCE_S = 10.0
"""How long a node that is switched on again is waited for."""

MACHINE_END_TIMEOUT_S = 10.0
"""Time for the kernel to end a machine that was killed."""

PAUSE_TIMEOUT_S = 5.0
"""Time for every process of a machine to stop, or to go on."""

NODE_CONNECT_TIMEOUT_S = 1.0
"""How long one of several nodes is tried before the next one is."""

assert DOWN_TIMEOUT_S >= STOP_TIMEOUT_S + CLEANUP_TIMEOUT_S, "down waits for an orderly stop"
assert UPLOAD_PIECE_BYTES * 4 // 3 < 4 << 20, "a piece fits in a frame in either codec"

DESTROY_TIMEOUT_S = 120.0
"""How long `paas destroy` waits unless told otherwise: gateways may need `drain_s` of a route to
let go of a component, before it gets its grace."""
