"""Bounds of the hub and how they relate."""

from paas.base.limits import FRAME_BYTES_MAX, OUTBOX_BYTES_MAX, OUTSTANDING_REQUESTS_MAX

OPERATOR_CONNECTIONS_MAX = 12_000
"""Open connections on the operators' socket; later ones are told so and closed.  An idle one costs
7 KB, so that 10,000 that somebody forgot to close do not shut others out."""

HARNESS_CONNECTIONS_MAX = 12_000
"""Open connections of harnesses."""

INVOCATIONS_MAX = OUTSTANDING_REQUESTS_MAX
"""Calls that may wait for one component: its mailbox.  Beyond: `limit-exceeded` for the caller."""

MAILBOX_BYTES_MAX = OUTBOX_BYTES_MAX // 2
"""Bytes queued towards one component before its callers are refused."""

LINK_BYTES_MAX = OUTBOX_BYTES_MAX // 2
"""Bytes queued towards another node's hub before callers of its components are refused."""

GROUPS_OF_COMPONENT_MAX = 256
GROUP_MEMBERS_MAX = 10_000
GROUPS_MAX = 10_000

HELLO_WAIT_S = 10.0
"""How long a harness whose container is not known yet may wait for it to become known."""

CALL_ALL_REPLIES_MAX = 1_000
"""Members that one call with selector `all` reaches."""

CALL_ALL_BYTES_MAX = FRAME_BYTES_MAX // 2
"""Outputs that one call with selector `all` gathers; members that answer later are errors in it."""

FANOUT_BYTES_MAX = 64 << 20
"""Bytes that one message to all members of a group may become, the copies counted."""

assert MAILBOX_BYTES_MAX < OUTBOX_BYTES_MAX, "callers are refused before the component is cut off"
