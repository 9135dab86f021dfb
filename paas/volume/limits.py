"""Bounds of volumes and how they relate."""

from paas.base.limits import FRAME_BYTES_MAX, OUTBOX_BYTES_MAX

MIB = 1 << 20

OWNERS_MAX = 10_000
"""Names (and unnamed components) that have volumes, in a cluster."""

PIECE_BYTES = 1 << 20
"""What one request for content asks for; a piece also tells where the next one begins, so that
what was never written is not sent."""

PIECES_AHEAD = 2
"""Pieces that have come and wait to be written, besides one that is on its way."""

PIECE_TIMEOUT_S = 30.0

CHECK_TIMEOUT_S = 1_800.0
"""Reading all of a volume once, for its digest."""

CALL_TIMEOUT_S = 30.0
"""Any other request to a container controller."""

COPIES_MAX = 2
"""Volumes that a node fetches at the same time."""

RETRY_S = 2.0
"""How often a node looks anew whether it can do what is to be done."""

COPY_RETRY_S = 1.0
"""How long after a copy that failed the next try begins."""

USAGE_TIMEOUT_S = 3.0
"""Another node is asked what is used of a volume; people wait for it."""

PROPOSE_TIMEOUT_S = 10.0

GRACE_S = 10.0
"""What a component gets to end when its volumes are moved, unless its order says otherwise."""

GRACE_S_MAX = 3_600.0

assert PIECE_BYTES * COPIES_MAX * (PIECES_AHEAD + 2) < OUTBOX_BYTES_MAX
assert PIECE_BYTES < FRAME_BYTES_MAX // 2
