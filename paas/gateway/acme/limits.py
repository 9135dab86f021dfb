"""Bounds of the ACME client.  Seconds, bytes, counts."""

ANSWER_BYTES_MAX = 65_536
CHAIN_BYTES_MAX = 262_144
REQUEST_S = 30.0
NAMES_MAX = 100
"""Of one certificate; authorities set the same bound or a lower one."""

NAME_MAX = 253
NONCES_MAX = 16
NONCE_MAX = 512
BAD_NONCE_MAX = 10
"""Repetitions of one request for the sake of its nonce (RFC 8555 §6.5)."""

POLL_FIRST_S = 0.5
POLL_CAP_S = 10.0
POLL_LEAST_S = 0.2
POLL_MOST_S = 60.0
"""What a Retry-After of an order may ask for; beyond it the order would not end in time."""

ORDER_S = 600.0
"""One order, from the first request to the chain."""

CLEAN_S = 10.0
"""To take challenges away again."""

PROPAGATION_S = 5.0
"""Between publishing a record and telling the authority to look, unless settings say otherwise."""

RENEW_AT = 2 / 3
"""Share of its life after which a certificate is renewed."""

RENEW_JITTER = 0.05
CHECK_S = 3600.0
"""What is due is looked at so often at least."""

RETRY_FIRST_S = 60.0
RETRY_CAP_S = 6 * 3600.0
RATE_LIMITED_S = 3600.0
"""After `rateLimited` without a Retry-After (RFC 8555 §6.6)."""

RETRY_AFTER_MOST_S = 7 * 86_400.0
LEASE_S = 5.0
"""Between two attempts at the lease while another gateway orders."""

CERTIFICATES_MAX = 1_000
KEY_BYTES_MAX = 16_384
CHALLENGES_MAX = 200
"""Authorisations of one order."""

DETAIL_MAX = 300
"""Of what an authority says, so much is repeated in errors."""
