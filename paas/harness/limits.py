"""Bounds of the harness and how they relate."""

from paas.base.limits import FRAME_BYTES_MAX, OUTSTANDING_REQUESTS_MAX, WATCHES_MAX

CHANNELS_MAX = 8
"""Connections that a component may have to its harness; one more is told so and closed."""

REQUESTS_MAX = OUTSTANDING_REQUESTS_MAX
"""Requests of one component, over all its connections, that may wait for their answer."""

COMPONENT_WATCHES_MAX = WATCHES_MAX

BODY_BYTES_MAX = FRAME_BYTES_MAX - 1_024
"""Params or a result of this size still fit in a frame, whatever envelope comes around."""

CHANNEL_OUTBOX_BYTES_MAX = 8 << 20
"""Bytes that wait for a component to read; beyond, its callers are refused and events dropped."""

CHANNEL_PAUSE_BYTES = 1 << 20
"""A component that does not read this much of its answers is not read from either."""

HUB_PAUSE_BYTES = 4 << 20
"""While this much waits for the hub, components are not read from."""

HELD_REQUESTS_MAX = 256
HELD_BYTES_MAX = 1 << 20
HOLD_S = 3.0
"""How long a request waits for a hub to come back before it is answered `not-available`."""

RECONNECT_FIRST_S = 0.02
RECONNECT_CAP_S = 0.25
HELLO_TIMEOUT_S = 15.0
"""A hub that does not answer the greeting for this long is left and dialled anew."""

ANSWER_MARGIN_S = 1.0
"""The hub answers `timeout` itself; only after this margin does the harness do it for the hub."""

SWEEP_PERIOD_S = 0.02
"""How finely deadlines of invocations are kept."""

TERMINATE_GRACE_S = 10.0
"""From the signal after an accepted `component.terminate` to force."""

TERMINATE_ACCEPTED_S = 30.0
"""A component that accepted to end, or said it ends, gets this long before the signal."""

STOP_GRACE_S_MAX = 600.0

PRIMARY_GONE_S = 0.1
"""A component whose connection has ended for this long, and which lives, is unavailable."""

LAST_WORDS_S = 1.0
"""How long an ended component's last records and phase may take to reach the hub."""

READ_BYTES = 65_536

COLLECT_AFTER = 5_000
"""Objects made and not gone, after which the collector looks for rings; messages make none."""

EARLY_BYTES = 8 << 10
"""So much is handed to the kernel before the turn of the loop has ended."""

BATCH_BYTES = 64 << 10
BATCH_PERIOD_S = 0.05
"""Records leave when so much has gathered, or this long after the first of them."""

QUEUE_BYTES_MAX = 2 << 20
"""Bytes of records kept while the hub cannot be reached; the oldest are dropped and counted."""

LINES_PER_S_MAX = 5_000
LINES_BURST_MAX = 10_000
"""Beyond this rate lines are counted, not kept: a flood must not cost others their processor."""

LINES_MIN = 100
"""With less than this left of its rate, a stream's lines are not even cut."""

DRAIN_PAUSE_S = 0.02
"""With a crowded queue, output is read once in this time: slowly, but it never stands still."""

DRAIN_READS_MAX = 64
"""Reads of what an ended component left in its pipes."""

assert BODY_BYTES_MAX < FRAME_BYTES_MAX <= HUB_PAUSE_BYTES
assert CHANNEL_PAUSE_BYTES + FRAME_BYTES_MAX < CHANNEL_OUTBOX_BYTES_MAX
assert BATCH_BYTES < QUEUE_BYTES_MAX
