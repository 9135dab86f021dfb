"""A layer's packed form is taken apart by its bytes, in bounded memory, and bombs are stopped."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import zstandard

from paas.base.errors import PlatformError
from paas.oci import limits
from paas.oci.compression import packed, unpacked

TEXT = b"a layer's bytes, " * 40_000


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 3, 1_000, 1 << 20])
@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.compress, lambda data: data], ids=["gzip", "zstd", "none"]
)
def test_every_form_is_known_by_its_first_bytes(pack: object, size: int) -> None:
    data = pack(TEXT[: 200_000 if size > 1 else 5_000])  # type: ignore[operator]
    wanted = TEXT[: 200_000 if size > 1 else 5_000]
    assert b"".join(unpacked(cut(data, size))) == wanted


def test_several_members_and_frames_are_one_layer() -> None:
    half = len(TEXT) // 2
    for pack in (gzip.compress, zstandard.compress):
        data = pack(TEXT[:half]) + pack(TEXT[half:])
        assert b"".join(unpacked(cut(data, 777))) == TEXT


def test_zero_bytes_may_follow_gzip_and_nothing_else() -> None:
    assert b"".join(unpacked([gzip.compress(TEXT), bytes(100)])) == TEXT
    with pytest.raises(PlatformError, match="decompressed"):
        list(unpacked([gzip.compress(TEXT), b"more"]))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 10])
def test_a_very_short_layer_is_not_taken_for_packed(size: int) -> None:
    assert b"".join(unpacked([b"a" * size])) == b"a" * size


def test_a_layer_that_ends_early_is_refused() -> None:
    with pytest.raises(PlatformError, match="middle"):
        list(unpacked([gzip.compress(TEXT)[:-9]]))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_damaged_bytes_are_refused(pack: object) -> None:
    data = bytearray(pack(TEXT))  # type: ignore[operator]
    data[len(data) // 2] ^= 0xFF
    data[8:14] = b"\xff" * 6
    with pytest.raises(PlatformError) as caught:
        list(unpacked([bytes(data)]))
    assert caught.value.code == "corrupt"


def test_a_zstd_bomb_is_stopped_in_bounded_memory() -> None:
    compressor = zstandard.ZstdCompressor(level=3)
    bomb = compressor.compress(bytes(256 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(PlatformError, match="more than 400-fold") as caught:
            for _ in unpacked([bomb * 8]):
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == "limit-exceeded"
    assert peak < 16 << 20


def test_a_gzip_bomb_is_stopped_by_the_bound_of_bytes() -> None:
    """deflate's own bound of 1,032 is below the ratio that is allowed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    sizes: list[int] = []
    with pytest.raises(PlatformError, match="more than 33554432 bytes"):
        sizes.extend(map(len, unpacked([bomb], 32 << 20)))
    assert 0 < sum(sizes) <= 32 << 20


def test_a_zstd_frame_that_asks_for_too_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(b"x" * 5_000) + packer.flush()
    assert limits.ZSTD_WINDOW_LOG_MAX < 30
    with pytest.raises(PlatformError, match="decompressed"):
        list(unpacked([data]))


def test_packing_depends_on_the_bytes_alone() -> None:
    one = b"".join(packed(cut(TEXT, 10_000)))
    assert gzip.decompress(one) == TEXT
    assert one[4:8] == bytes(4)  # no time
    assert one == b"".join(packed(cut(TEXT, 10_000)))
