"""Bounds of identities and how they relate."""

CLOCK_SKEW_S = 60
"""How far two machines' clocks may differ: our verification accepts this much beyond either end."""

BEGIN_EARLY_S = 300
"""Certificates begin this much before they are issued: the TLS library judges by the machine's
clock, without allowance, so a node whose clock is a little slow would refuse a new certificate."""

LABEL_CHARACTERS_MAX = 63
"""One label of a host name (RFC 1035 §2.3.4); agent identities and sub-systems are labels."""

CLUSTER_CHARACTERS_MAX = 64
NODE_CHARACTERS_MAX = 64
"""Also the upper bound that X.520 sets for the OU attribute, which carries the node."""

HOST_NAME_CHARACTERS_MAX = 253

CERTIFICATE_BYTES_MAX = 8_192
"""Largest certificate that is parsed, DER; ours have about 700 bytes."""

REQUEST_BYTES_MAX = 4_096
"""Largest certificate request that is parsed, PEM; ours have about 500 bytes."""

CHAIN_CERTIFICATES_MAX = 4
"""Certificates that are read of one chain: agent, node authority, perhaps the authority itself."""

AUTHORITIES_MAX = 8
"""Authority certificates that one agent trusts at a time (old, active, prepared, and some room)."""

CAPABILITIES_MAX = 64
CAPABILITY_CHARACTERS_MAX = 64

SERIAL_BYTES = 16
"""Random bytes of a serial number; RFC 5280 §4.1.2.2 allows 20 octets."""

TOKEN_ID_BYTES = 8
TOKEN_SECRET_BYTES = 32

JOIN_TOKEN_ID_BYTES = 8
JOIN_TOKEN_SECRET_BYTES = 16
"""People copy join tokens by hand, so they are no longer than they must be."""

assert (
    LABEL_CHARACTERS_MAX + NODE_CHARACTERS_MAX + CLUSTER_CHARACTERS_MAX + 2
    <= HOST_NAME_CHARACTERS_MAX
), "the host name of every agent must be a legal one"
assert BEGIN_EARLY_S > CLOCK_SKEW_S, "who is within the skew sees new certificates as begun"
assert JOIN_TOKEN_SECRET_BYTES >= 16, "nobody guesses 128 bits"
assert SERIAL_BYTES < 20, "a serial number must fit in 20 octets with its sign"
