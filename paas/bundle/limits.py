"""Bounds of bundles and manifests, checked when a bundle is built and again wherever it is read.

The builder obeys the same numbers as the reader, so that a developer hears of a limit when packing
and not from a node that refuses the upload.
"""

from __future__ import annotations

from paas.base.limits import CALL_TIMEOUT_S_MAX, OUTBOX_BYTES_MAX

MIB = 1 << 20
GIB = 1 << 30

ENTRIES_MAX = 50_000
"""Files, directories and links of one bundle: a bound for inodes and for the reader's memory."""

UNPACKED_BYTES_MAX = 2 * GIB
"""Bytes of a whole bundle after decompression, headers included."""

FILE_BYTES_MAX = GIB
"""Bytes of one file."""

BUNDLE_BYTES_MAX = 512 * MIB
"""Bytes of the compressed archive: what one upload may store."""

PATH_BYTES_MAX = 1_024
"""Bytes of a path inside the bundle; the kernel's own bound is 4,096 including the root's path."""

NAME_BYTES_MAX = 255
"""Bytes of one name, the bound of Linux file systems."""

DEPTH_MAX = 64
"""Names in one path: bounds the open directory descriptors of an extraction."""

LINK_BYTES_MAX = 1_024
"""Bytes of a symbolic link's target."""

RATIO_MAX = 200
"""Unpacked bytes for one packed byte, beyond RATIO_FREE_BYTES; source code has about 5."""

RATIO_FREE_BYTES = 16 * MIB
"""Small bundles may compress as well as they like: these bytes do no harm."""

CHUNK_BYTES = 1 << 18
"""Unit of reading, writing, hashing and of feeding the compressor (part of the archive format)."""

WINDOW_LOG_MAX = 21
"""The decompressor never needs more than 2 MiB of history, whatever an archive asks for."""

IGNORE_FILE_BYTES_MAX = 64 << 10
IGNORE_RULES_MAX = 1_000

MANIFEST_NAME = "component.toml"
MANIFEST_BYTES_MAX = 64 << 10

VOLUMES_MAX = 8
"""Volumes of one component."""

VOLUME_BYTES_MIN = 8 * MIB
"""A file system with a journal needs a few."""

VOLUME_BYTES_MAX = 1024 * GIB
VOLUME_PATH_LENGTH_MAX = 200

SIGNATURE_BYTES_MAX = 4 << 10
"""A signature file: two base64 lines and two comments."""

PUBLISHERS_MAX = 1_000
BUNDLES_MAX = 10_000
"""Bundles and publishers that the cluster state holds."""

UPLOADS_MAX = 32
"""Uploads that may be open at the same time in one store."""

PIECE_BYTES = 256 << 10
"""What one node gives another at a time: small beside a frame, so that calls get in between."""

PIECE_TIMEOUT_S = 10.0
"""A node that does not answer for a piece in this time is left for another."""

FETCHES_MAX = 4
"""Bundles that one node fetches at the same time."""

FETCH_WAIT_S = 30.0
"""How long a start waits for its bundle; the fetch goes on afterwards."""

FETCH_PAUSE_S = 0.2
"""Before the nodes are asked for the rest, when some of it has come."""

COPIES = 3
"""Nodes that keep each bundle, where there are as many."""

KEEP_TIMEOUT_S = 120.0
"""How long another node may take to fetch a copy before an upload is acknowledged."""

BALANCE_PERIOD_S = 15.0
"""How often to look whether nodes have come or gone, or a fetch must be repeated."""

BALANCE_PAUSE_S = 0.1
"""Between two fetches in the background."""

COLLECT_PERIOD_S = 600.0
COLLECT_AFTER_S = 7_200.0
"""A blob that the log does not know is removed after it has been unknown so long: its upload may
not have been acknowledged yet, on another node."""

ACCUSED_MAX = 1_000
"""Bundles for which it is remembered who gave wrong bytes."""

REFERENCES_MAX = 10_000
"""Types that may refer to one bundle."""

MEMORY_BYTES_MIN = 4 * MIB
MEMORY_BYTES_MAX = 16 << 40
"""A memory limit below 1 MiB cannot start any program; above 16 TiB it is a typing error."""

CPU_CORES_MAX = 4_096.0
PIDS_MAX = 4_194_304
"""The kernel's own bound of process identifiers."""

DISK_BYTES_MAX = 1 << 50

IO_BYTES_PER_S_MIN = 64 << 10
IO_BYTES_PER_S_MAX = 1 << 40
"""Slower, one file of some megabytes takes minutes; above 1 TiB in a second is a typing error."""

TIME_S_MAX = 86_400.0
RESTARTS_MAX = 1_000_000
COMMAND_WORDS_MAX = 256
TEXT_BYTES_MAX = 4_096
"""Length of a command's word, a description, a value of the environment."""

OPERATIONS_MAX = 256
"""Operations, objects or applications in one entry of `exposes` or `requires`."""

DURABLE_ATTEMPTS_MAX = 100
DURABLE_BACKOFF_S_MAX = 600.0
"""Longest wait between two attempts of a durable mailbox, however often the first is doubled."""

DURABLE_MESSAGES_MAX = 50_000
"""Largest number of waiting messages that a durable mailbox can be declared for."""

DURABLE_BYTES_MIN = 128 << 10
DURABLE_BYTES_MAX = 16 << 20
"""Bounds of the bytes that a durable mailbox can be declared for."""

DURABLE_TIMEOUT_S_MAX = 300.0
DURABLE_IN_FLIGHT_MAX = 256
"""Largest number of messages of one mailbox that members work on at the same time."""

TABLE_ENTRIES_MAX = 64
"""Endpoints, requirements, or variables of the environment of one component type."""

assert COLLECT_AFTER_S > CALL_TIMEOUT_S_MAX, "no upload may last as long"
assert PIECE_BYTES * FETCHES_MAX < OUTBOX_BYTES_MAX
assert FILE_BYTES_MAX <= UNPACKED_BYTES_MAX
assert FILE_BYTES_MAX < 8 * GIB, "a larger size does not fit in the archive's header"
assert MANIFEST_BYTES_MAX <= CHUNK_BYTES <= FILE_BYTES_MAX
assert NAME_BYTES_MAX <= PATH_BYTES_MAX <= 4_096
assert (1 << WINDOW_LOG_MAX) >= 1_024
