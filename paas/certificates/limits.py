"""Bounds of the certificate manager and how they relate."""

from paas.identity.limits import BEGIN_EARLY_S, CLOCK_SKEW_S

AUTHORITY_LIFE_S = 10 * 365 * 86_400
"""Life of the cluster's authority."""

NODE_AUTHORITY_LIFE_S = 365 * 86_400
"""Life of a node's authority; renewed at half of it, so a node may be away for half a year."""

NODE_RENEWAL_CHECK_S = 3_600.0
"""How often a hub looks whether the authority of its node is to be renewed."""

LEAF_LIFE_S = 24 * 3_600
"""Default life of an agent's certificate; renewed at half of it."""

LEAF_LIFE_S_MIN = 10 * 60
LEAF_LIFE_S_MAX = 7 * 86_400

OPERATOR_LIFE_S_MAX = LEAF_LIFE_S_MAX
"""Longest life of an operator's certificate, which nothing ends before its time."""

TOKEN_LIFE_S = 60
"""Default time from the making of a spawn token to the last moment it can be redeemed."""

TOKEN_LIFE_S_MAX = 600

TOKENS_MAX = 1_024
"""Spawn tokens alive at a time; the next one is refused with `limit-exceeded`."""

ISSUED_MAX = 20_000
"""Certificates that have not ended and are on record; the next one is refused."""

SERIAL_DRAWS_MAX = 8
"""Attempts to draw a serial number that is not in use; more means broken entropy."""

CONNECTIONS_MAX = 256

STATE_BYTES_MAX = 16 << 20
"""Largest file of records that is read."""

OBTAIN_ATTEMPTS = 4
"""How often a client asks with the same token and key when answers are lost."""

OBTAIN_TIMEOUT_S = 10.0
"""How long a client waits for one answer."""

RENEWAL_CHECK_S = 60.0
"""How often a holder looks at the clock, which may have been set, while it waits to renew."""

RENEWAL_RETRY_S = 30.0
"""Pause after a renewal that failed."""

JOIN_PROTOCOL = 1
"""Version of the joining protocol; both sides must speak the same."""

JOIN_TOKEN_LIFE_S = 600
"""Default time from the making of a join token to the last moment it can be used."""

JOIN_TOKEN_LIFE_S_MAX = 7 * 86_400

JOIN_TOKENS_MAX = 256
"""Join tokens in the cluster state; the next one is refused with `limit-exceeded`."""

JOIN_TOKEN_KEPT_S = 3_600
"""How long an expired join token stays in the state, so that the log can say why it is refused."""

JOIN_CLOCK_S_MAX = 120
"""A node whose clock differs more from the cluster's may not join."""

JOIN_CONNECTIONS_MAX = 16
"""Connections of the join listener at a time."""

JOIN_CONNECTION_S = 10.0
"""How long one connection of the join listener may last, from the handshake to the answer."""

JOIN_REQUEST_BYTES_MAX = 64 << 10
"""Bytes that a node that joins may send, all together."""

JOIN_FAILURES_MAX = 10
"""Refused attempts of one address within `JOIN_FAILURES_S`; then it is not listened to."""

JOIN_FAILURES_ALL_MAX = 200
"""The same for all addresses together: each costs an entry of the log."""

JOIN_FAILURES_S = 60.0

JOIN_ATTEMPTS = 3
"""How often a node asks with the same token and key when answers are lost."""

ADDRESS_CHARACTERS_MAX = 262
"""A host name or IP address in brackets, a colon, a port."""

assert LEAF_LIFE_S_MIN <= LEAF_LIFE_S <= LEAF_LIFE_S_MAX < NODE_AUTHORITY_LIFE_S // 2
assert NODE_AUTHORITY_LIFE_S < AUTHORITY_LIFE_S
assert JOIN_TOKEN_LIFE_S <= JOIN_TOKEN_LIFE_S_MAX
assert JOIN_CLOCK_S_MAX >= CLOCK_SKEW_S + JOIN_CONNECTION_S, "who is within the skew may join"
assert JOIN_CLOCK_S_MAX + CLOCK_SKEW_S < BEGIN_EARLY_S, "who may join sees certificates as begun"
assert LEAF_LIFE_S_MIN >= 4 * CLOCK_SKEW_S, "a skewed clock must leave time to renew"
assert RENEWAL_CHECK_S + RENEWAL_RETRY_S < LEAF_LIFE_S_MIN / 3, "a renewal has several attempts"
assert TOKEN_LIFE_S <= TOKEN_LIFE_S_MAX
assert OBTAIN_ATTEMPTS * OBTAIN_TIMEOUT_S <= TOKEN_LIFE_S, "every retry must find the token alive"
assert ISSUED_MAX * 400 <= STATE_BYTES_MAX, "every record that may be written can be read"
