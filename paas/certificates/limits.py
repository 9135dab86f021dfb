"""Bounds of the certificate manager and how they relate."""

from paas.identity.limits import CLOCK_SKEW_S

AUTHORITY_LIFE_S = 10 * 365 * 86_400
"""Life of the cluster's authority."""

LEAF_LIFE_S = 24 * 3_600
"""Default life of an agent's certificate; renewed at half of it."""

LEAF_LIFE_S_MIN = 10 * 60
LEAF_LIFE_S_MAX = 7 * 86_400

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

assert LEAF_LIFE_S_MIN <= LEAF_LIFE_S <= LEAF_LIFE_S_MAX < AUTHORITY_LIFE_S
assert LEAF_LIFE_S_MIN >= 4 * CLOCK_SKEW_S, "a skewed clock must leave time to renew"
assert RENEWAL_CHECK_S + RENEWAL_RETRY_S < LEAF_LIFE_S_MIN / 3, "a renewal has several attempts"
assert TOKEN_LIFE_S <= TOKEN_LIFE_S_MAX
assert OBTAIN_ATTEMPTS * OBTAIN_TIMEOUT_S <= TOKEN_LIFE_S, "every retry must find the token alive"
assert ISSUED_MAX * 400 <= STATE_BYTES_MAX, "every record that may be written can be read"
