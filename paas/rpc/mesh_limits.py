"""Numbers of the connections between nodes, and how they relate."""

from __future__ import annotations

from paas.base.limits import FRAME_BYTES_MAX
from paas.base.retry import Backoff

PROTOCOL_VERSIONS = (1,)
"""Versions of what is said on a connection between nodes, best last.  A version is added when an
older node could misunderstand a message; new methods and new optional fields need none."""

HELLO_BYTES_MAX = 4 << 10
"""Largest greeting."""

EPOCH_MAX = (1 << 62) - 1
"""A greeting that claims more is refused: the next epoch must be larger and fit in 64 bits."""

RAFT_FRAME_BYTES_MAX = (1 << 20) + (64 << 10)
"""Largest frame of the channel "raft": its largest message, and slack for those to come."""

MESH_OUTBOX_BYTES_MAX = 8 << 20
"""Bytes queued towards one node on one channel; a node that lets them grow beyond is cut off."""

CONNECT_S = 0.5
"""How long to wait for the first answer of a node.  Short, since the kernel repeats an unanswered
SYN only after a second, and a network that is whole again must carry messages within that."""

PROVE_S = 5.0
"""An incoming connection must have proven who it is within this time."""

GREETING_S = 5.0
"""A proven connection must have greeted within this time."""

LINGER_S = 1.0
"""How long a refused node gets to read why."""

UNPROVEN_MAX = 64
"""Incoming connections that have not proven who they are.  A newcomer beyond ends the oldest: who
is honest needs milliseconds, so he who fills the places loses them first."""

GREETINGS_MAX = 64
"""The same for connections that are proven and have not greeted."""

RECONNECT = Backoff(first_s=0.02, factor=1.7, cap_s=0.5)
"""From the beginning of one attempt to the next, when nobody answers."""

RECONNECT_REFUSED = Backoff(first_s=0.1, factor=2.0, cap_s=1.0)
"""The same towards a node that answers and refuses: each attempt costs both a handshake."""

STABLE_S = 1.0
"""A connection that lived this long counts as a success; the back-off begins again."""

SILENCE_S = 3.0
"""Bytes that stay unacknowledged for this long end a connection (TCP_USER_TIMEOUT, tcp(7))."""

KEEPALIVE_S = 1
"""Pause between the kernel's probes on a connection that says nothing."""

TROUBLE_REPEAT_S = 30.0
"""The same trouble with the same party is told again after this, with a count of what was left
out."""

TROUBLE_BURST = 20
"""Different troubles told within one TROUBLE_REPEAT_S; strangers choose how many they cause."""

TROUBLE_KEYS_MAX = 256
"""Troubles that are remembered."""

assert MESH_OUTBOX_BYTES_MAX >= 2 * FRAME_BYTES_MAX, "a full frame must never end a connection"
assert CONNECT_S + RECONNECT.first_s < 1.0, "healed within a second"
assert RECONNECT.cap_s < 1.0, "healed within a second"
assert TROUBLE_BURST <= TROUBLE_KEYS_MAX
