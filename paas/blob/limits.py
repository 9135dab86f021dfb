"""Bounds of attachments and how they relate."""

from paas.base.limits import FRAME_BYTES_MAX, OUTBOX_BYTES_MAX

MIB = 1 << 20
GIB = 1 << 30

OWNER_BYTES_MAX = 256 * MIB
"""What one component has stored, uploads under way included; all operators together count as one.
It is also the largest attachment."""

NODE_BYTES_MAX = 2 * GIB
"""All of it on one node, with what was fetched from others."""

DISK_FREE_BYTES_MIN = 256 * MIB
"""Attachments are refused before the state directory's file system has less left: the log of the
cluster is there too."""

PIECE_BYTES_MAX = MIB
"""Bytes in one `blob.append` or `blob.read`."""

KEPT_S = 600.0
"""An attachment that nobody has used for so long is removed."""

CACHED_S = 60.0
"""The same for one that was fetched from another node: it can be fetched again."""

ENDED_KEPT_S = 30.0
"""The same once its owner has ended: an answer may be the last thing that it did."""

YIELDS_S = 60.0
"""An attachment that was not used for so long makes room for another one of its owner."""

UPLOAD_IDLE_S = 60.0
"""An upload that gets no more pieces ends."""

SWEEP_PERIOD_S = 5.0
"""How often to look for what is to be removed, while there is anything."""

ENTRIES_OF_OWNER_MAX = 2_000
"""Attachments of one owner: else one that stores tiny ones would leave no places to the others."""

UPLOADS_MAX = 64
UPLOADS_OF_OWNER_MAX = 8
"""Uploads under way, on a node and of one owner."""

APPENDS_WAITING_MAX = 2
"""Pieces of one upload that may wait for their turn, or that are being written: with all uploads,
128 MiB of a node's memory at the very most."""

READS_MAX = 8
"""Reads that one connection may have under way: a component has one connection."""

LINK_PAUSE_BYTES = MIB
"""No piece is read from the disk while so much waits for its reader on the way; and pieces for one
reader are read one after the other, so what a reader that takes nothing costs is this and one."""

LINK_POLL_S = 0.01
"""How often to look whether the reader has caught up."""

GRANTS_MAX = 64
"""Owners that may have stored the same bytes, each with a key of its own."""

ENTRIES_MAX = 20_000
"""Attachments on a node: they may be small, and each costs some memory."""

FETCH_BYTES = 256 << 10
"""What one node gives another at a time: small beside a frame, so that calls get in between."""

FETCH_WINDOW_BYTES = 4 * FETCH_BYTES
"""Asked of another node, and not here yet, for one attachment."""

FETCH_AHEAD_BYTES = 8 * MIB
"""A fetch is ahead of its fastest reader by so much at most."""

FETCH_IDLE_S = 30.0
"""A fetch whose readers have asked for nothing for so long ends, and what has come is removed."""

FETCHES_MAX = 32
FETCHES_OF_READER_MAX = 8
"""Attachments that one node fetches at the same time, in all and begun by one reader."""

SERVED_MAX = 64
"""Pieces that one node reads for another at the same time."""

FETCH_PIECE_TIMEOUT_S = 10.0
FETCH_RETRY_S = 0.3
FETCH_RETRIES_MAX = 10
"""A piece that does not come is asked for again, so many times, after so long."""

KEY_BYTES = 16
"""Random bytes of a key: who does not know it cannot read, even if he knows the content."""

assert PIECE_BYTES_MAX * 2 < FRAME_BYTES_MAX, "also in base64"
assert LINK_PAUSE_BYTES + 2 * PIECE_BYTES_MAX + FETCHES_MAX * FETCH_BYTES < OUTBOX_BYTES_MAX
assert FETCHES_OF_READER_MAX >= READS_MAX, "each of a reader's reads may be of another attachment"
assert ENTRIES_OF_OWNER_MAX < ENTRIES_MAX
assert FETCH_WINDOW_BYTES < FETCH_AHEAD_BYTES < OWNER_BYTES_MAX < NODE_BYTES_MAX
assert ENDED_KEPT_S <= CACHED_S <= YIELDS_S < KEPT_S
