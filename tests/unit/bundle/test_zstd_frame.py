"""The gate knows where a frame ends, however it is cut, and lets nothing else through."""

from __future__ import annotations

import os

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.bundle import archive
from paas.bundle.zstd_frame import Gate


def frame(data: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(compression_params=archive._PARAMETERS).compressobj()
    return compressor.compress(data) + compressor.flush()


CONTENTS = (b"", b"x", bytes(1 << 20), os.urandom(1 << 18), b"hello world " * 50_000)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(CONTENTS), st.integers(1, 70_000))
def test_a_frame_passes_however_it_is_cut(content: bytes, step: int) -> None:
    gate, packed = Gate(), frame(content)
    for at in range(0, len(packed), step):
        gate.feed(packed[at : at + step])
    gate.close()


@pytest.mark.parametrize("content", CONTENTS)
def test_a_byte_after_the_frame_is_refused(content: bytes) -> None:
    gate = Gate()
    gate.feed(frame(content))
    with pytest.raises(PlatformError, match="further bytes"):
        gate.feed(b"x")


@pytest.mark.parametrize("content", CONTENTS)
def test_a_frame_without_its_last_byte_is_not_over(content: bytes) -> None:
    gate = Gate()
    gate.feed(frame(content)[:-1])
    with pytest.raises(PlatformError, match="too early"):
        gate.close()
