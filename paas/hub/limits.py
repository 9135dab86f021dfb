"""Bounds of the hub and how they relate."""

from paas.base.limits import FRAME_BYTES_MAX, OUTBOX_BYTES_MAX, OUTSTANDING_REQUESTS_MAX
from paas.bundle import limits as declared

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

TERMS_KEPT_MAX = 10_000
"""Pairs of types whose terms are kept compiled; beyond, they are compiled anew."""

PAIRS_KEPT_MAX = 20_000
"""Pairs of components that their terms are found for at once; beyond, by way of their types."""

SELECTOR_LENGTH_MAX = 512
"""Characters of a selector, the key or value in it included."""

RING_POINTS = 64
"""Points of a member on the ring of `hash:<key>`: shares differ by about an eighth (1/sqrt)."""

PARKED_MAX = 1_000
"""Messages that wait for the rings of large groups; they are sent in one go, so not too many."""

LOADS_PERIOD_S = 1.0
"""How often another hub is asked for the loads of its components, while somebody wants them."""

LOADS_STALE_S = 5.0
"""A load that was last heard of longer ago counts as none."""

LOADS_ASKED_MAX = 1_000
"""Components that one question for loads names."""

LOADS_KEPT_MAX = 10_000
"""Components of other nodes whose load is remembered."""

DISTANCE_PERIOD_S = 5.0
"""How often the round-trip to another hub is measured, while somebody wants what is nearest."""

DISTANCE_WEIGHT = 0.3
"""Weight of the newest measurement of a round-trip."""

SLOW_BYTES = MAILBOX_BYTES_MAX // 4
SLOW_WAITING = INVOCATIONS_MAX // 4
"""A component for which more waits is called slow."""

TOP_TIMEOUT_S = 2.0
"""How long `hub.top` waits for the hub of another node."""

TOP_COMPONENTS_MAX = 1_000
"""Components in one answer of `hub.top`."""

TOP_SLOW_MAX = 100
"""Slow components that it names for each node."""

HELLO_WAIT_S = 10.0
"""How long a harness whose container is not known yet may wait for it to become known."""

CALL_ALL_REPLIES_MAX = 1_000
"""Members that one call with selector `all` reaches."""

CALL_ALL_BYTES_MAX = FRAME_BYTES_MAX // 2
"""Outputs that one call with selector `all` gathers; members that answer later are errors in it."""

FANOUT_BYTES_MAX = 64 << 20
"""Bytes that one message to all members of a group may become, the copies counted."""

DURABLE_MAILBOXES_MAX = 256
"""Groups with a durable mailbox."""

DURABLE_MESSAGE_BYTES_MAX = 24 << 10
"""Inputs, attachments and words of one message in a durable mailbox: it is a command of the log."""

DURABLE_BATCH_BYTES_MAX = 28 << 10
"""Messages that one command puts into mailboxes, with what they cost beside their contents."""

DURABLE_BATCH_MESSAGES_MAX = 200
"""So many messages at most in such a command."""

DURABLE_OVERHEAD_BYTES = 128
"""What a message counts beside its contents."""

DURABLE_ID_LENGTH_MAX = 128
"""Characters of an id that a sender gives to its message."""

DURABLE_IDS_REMEMBERED = 4_096
"""Ids of a mailbox's finished messages that are still known, so that a repetition is none."""

DURABLE_ATTEMPTS_MAX = declared.DURABLE_ATTEMPTS_MAX
DURABLE_BACKOFF_S_MAX = declared.DURABLE_BACKOFF_S_MAX
DURABLE_MESSAGES_MAX = declared.DURABLE_MESSAGES_MAX
DURABLE_BYTES_MIN = declared.DURABLE_BYTES_MIN
DURABLE_BYTES_MAX = declared.DURABLE_BYTES_MAX
DURABLE_TIMEOUT_S_MAX = declared.DURABLE_TIMEOUT_S_MAX
DURABLE_IN_FLIGHT_MAX = declared.DURABLE_IN_FLIGHT_MAX
"""What a mailbox can be configured for is what a manifest can declare."""

DURABLE_TOTAL_BYTES_MAX = 64 << 20
"""All mailboxes of the cluster with their dead letters: they are part of every snapshot."""

DEAD_LETTERS_MAX = 1_000
"""Dead letters that a mailbox keeps; the oldest are dropped, and counted."""

DEAD_LETTERS_SHARE = 4
"""Dead letters take one part in so many of a mailbox's bytes, beside those."""

DEAD_LETTERS_LISTED_MAX = 100
"""Dead letters in one answer."""

FAILURE_REASON_LENGTH_MAX = 500
"""Characters of a failed attempt's reason."""

DURABLE_PUTS_WAITING_MAX = 2_048
DURABLE_PUTS_WAITING_BYTES_MAX = 4 << 20
"""Messages that wait in one hub for their turn to be committed; more are refused."""

DURABLE_ACKS_UNCOMMITTED_MAX = 1_000
"""Acknowledged messages of a mailbox whose acknowledgement is not committed: they would come twice
if this hub ended now.  No others are delivered until there are fewer."""

DURABLE_RETRY_S = 0.5
"""How often a mailbox whose messages nobody can take looks for a member that is ready."""

COLLECT_AFTER = 20_000
"""Objects made and not gone, after which the collector of the hub's process looks for rings."""

TOP_USAGE_S = 1.0
"""`hub.top` does not wait longer for what containers use."""

FROZEN_MARGIN_S = 0.25
"""A call to a frozen component is given up so long before its deadline, to say why."""

assert DURABLE_MESSAGE_BYTES_MAX + DURABLE_OVERHEAD_BYTES < DURABLE_BATCH_BYTES_MAX
assert DURABLE_BYTES_MIN // DEAD_LETTERS_SHARE > DURABLE_MESSAGE_BYTES_MAX
assert DURABLE_BYTES_MAX < DURABLE_TOTAL_BYTES_MAX
assert MAILBOX_BYTES_MAX < OUTBOX_BYTES_MAX, "callers are refused before the component is cut off"
