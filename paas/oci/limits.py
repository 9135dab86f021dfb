"""Bounds of images that come from elsewhere, checked before the bytes behind them are taken."""

MIB = 1 << 20
GIB = 1 << 30

LAYERS_MAX = 127
"""Layers of one image: what docker's storage allows, so no image that ran anywhere has more."""

LAYER_PACKED_BYTES_MAX = 4 * GIB
LAYER_UNPACKED_BYTES_MAX = 16 * GIB
"""Bytes of one layer as stored, and as a tar archive."""

ENTRIES_MAX = 500_000
"""Files, directories and links of one layer: a bound for inodes."""

FILE_BYTES_MAX = 8 * GIB

RATIO_MAX = 1_100
"""Unpacked bytes for one packed byte, beyond RATIO_FREE_BYTES; deflate has 1,032 at most."""

ZSTD_RATIO_MAX = 400
"""zstd could pack a petabyte of zeros into some kilobytes; file systems of programs have 4."""

RATIO_FREE_BYTES = 64 * MIB
"""Small layers may compress as well as they like."""

ZSTD_WINDOW_LOG_MAX = 27
"""The history that a layer may ask of the decompressor: 128 MiB, as the zstd tool's default."""

NAME_BYTES_MAX = 255
"""One name: the bound of Linux file systems."""

PATH_BYTES_MAX = 4_095
TARGET_BYTES_MAX = 4_095
DEPTH_MAX = 128
"""Names in one path, and directories in one another: whoever removes a tree holds one descriptor
for each."""

EXTENDED_BYTES_MAX = 1 << 20
"""One header that says more about the next entry; long names need 8 KiB, labels and attributes
some more."""

EXTENDED_IN_A_ROW_MAX = 8
"""Such headers before one entry: GNU writes two, POSIX two."""

ID_MAX = 65_535
"""Users and groups of a container's range."""

DOCUMENT_BYTES_MAX = 4 * MIB
"""An index, manifest or configuration."""

COLLECTION_ENTRIES_MAX = 10_000
"""Members of an archive that holds an image."""

IMAGES_MAX = 1_000
"""Images that one index or archive may offer."""

ENVIRONMENT_BYTES_MAX = 4 << 10
WORDS_BYTES_MAX = 2 << 10
"""The variables, and the words of the command, that an image brings as defaults."""

CHUNK_BYTES = 1 << 18
