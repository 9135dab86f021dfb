"""Bounds of identities and how they relate."""

CLOCK_SKEW_S = 60
"""How far two machines' clocks may differ.  Certificates begin this much before they are issued,
and verification accepts this much beyond either end."""

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

AUTHORITIES_MAX = 8
"""Authority certificates that one agent trusts at a time (old, active, prepared, and some room)."""

CAPABILITIES_MAX = 64
CAPABILITY_CHARACTERS_MAX = 64

SERIAL_BYTES = 16
"""Random bytes of a serial number; RFC 5280 §4.1.2.2 allows 20 octets."""

TOKEN_ID_BYTES = 8
TOKEN_SECRET_BYTES = 32

assert (
    LABEL_CHARACTERS_MAX + NODE_CHARACTERS_MAX + CLUSTER_CHARACTERS_MAX + 2
    <= HOST_NAME_CHARACTERS_MAX
), "the host name of every agent must be a legal one"
assert SERIAL_BYTES < 20, "a serial number must fit in 20 octets with its sign"
