"""The page between the container controller and the fence: half written, replaced, not ours."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

import pytest

from paas.real.kernel_fence import LeaseFile

GROUPS = ["/sys/fs/cgroup/memory/paas-x", "/sys/fs/cgroup/cpu/paas-x"]


@pytest.fixture
def lease(tmp_path: Path) -> LeaseFile:
    return LeaseFile.create(str(tmp_path / "lease"), deadline_s=5.0, boot="b-1", groups=GROUPS)


def test_what_one_writes_the_other_reads(lease: LeaseFile) -> None:
    other = LeaseFile(lease.path)
    assert (other.deadline_s, other.boot, other.groups) == (5.0, "b-1", GROUPS)
    assert (other.fenced_s, other.watchdog) == (0.0, (0, 0))
    lease.deadline_s = 7.5
    other.fenced_s = 7.6
    other.watchdog = (12, 1 << 40)
    assert (other.deadline_s, lease.fenced_s, lease.watchdog) == (7.5, 7.6, (12, 1 << 40))
    lease.deadline_s = math.inf
    assert other.deadline_s == math.inf


@pytest.mark.parametrize(("before", "after"), [(5.0, 9.0), (math.inf, 9.0), (9.0, math.inf)])
def test_a_writer_killed_between_the_copies_granted_nothing(
    lease: LeaseFile, before: float, after: float
) -> None:
    lease.deadline_s = before
    with open(lease.path, "r+b") as file:
        file.seek(8)
        file.write(struct.pack("<d", after))
    assert lease.deadline_s == min(before, after)


def test_a_page_that_was_taken_away_or_replaced_is_noticed(lease: LeaseFile) -> None:
    assert not lease.removed()
    assert not lease.replaced()
    os.unlink(lease.path)
    assert lease.removed()
    assert not lease.replaced()
    LeaseFile.create(lease.path, deadline_s=1.0, boot="b-1", groups=[])
    assert not lease.removed()
    assert lease.replaced()


def test_a_new_page_takes_the_place_of_whatever_is_there(lease: LeaseFile) -> None:
    Path(f"{lease.path}.new").write_text("of a writer that was killed")
    fresh = LeaseFile.create(lease.path, deadline_s=2.0, boot="b-2", groups=[])
    assert (fresh.deadline_s, fresh.boot, fresh.groups) == (2.0, "b-2", [])


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 4096, b"x" * 8192])
def test_what_is_no_page_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lease"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no lease"):
        LeaseFile(str(path))


def test_a_link_is_not_followed(lease: LeaseFile, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(lease.path)
    with pytest.raises(OSError, match="symbolic"):
        LeaseFile(str(link))
