"""Quantities are read exactly, in one unit each, and nothing vague is accepted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base import units


@pytest.mark.parametrize(
    ("written", "count"),
    [
        (1, 1),
        ("64M", 64 << 20),
        ("64 Mi", 64 << 20),
        ("1.5G", 3 << 29),
        ("1GiB", 1 << 30),
        ("1MB", 1_000_000),
        ("2kB", 2_000),
        ("10B", 10),
        (4096.0, 4096),
        ("1T", 1 << 40),
    ],
)
def test_a_size_is_read_in_bytes(written: object, count: int) -> None:
    assert units.to_bytes(written) == count


@pytest.mark.parametrize(
    ("written", "cores"), [(0.5, 0.5), ("1.5", 1.5), ("500m", 0.5), (2, 2.0), (0.00001, 0.00001)]
)
def test_a_share_is_read_in_cores(written: object, cores: float) -> None:
    assert units.to_cores(written) == cores


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90.0), ("90s", 90.0), ("500ms", 0.5), ("2h", 7200.0), ("1.5m", 90.0), ("1d", 86400.0)],
)
def test_a_duration_is_read_in_seconds(written: object, seconds: float) -> None:
    assert units.to_seconds(written) == seconds


@pytest.mark.parametrize("read", [units.to_bytes, units.to_cores, units.to_seconds])
@pytest.mark.parametrize(
    "written",
    [
        True,
        None,
        [],
        "",
        "M",
        "-1",
        -1,
        "1e3",
        "1h30m",
        "64 X",
        float("nan"),
        float("inf"),
        1e300,
        "0x10",
        "٣",
        " 1",
        "1\n",
    ],
)
def test_what_is_not_a_quantity_is_refused(
    read: Callable[[object], object], written: object
) -> None:
    with pytest.raises(ValueError, match="such as"):
        read(written)


def test_a_fraction_of_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="a size"):
        units.to_bytes("1.0001K")


@given(st.integers(min_value=0, max_value=1 << 58))
def test_a_formatted_size_reads_back(count: int) -> None:
    assert units.to_bytes(units.format_bytes(count)) == count
