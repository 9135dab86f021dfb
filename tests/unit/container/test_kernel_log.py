"""Whom the kernel ended for want of memory, out of its log."""

from __future__ import annotations

import os
from pathlib import Path

from paas.real.kernel_log import KernelLog, read_kill

C = "ab" * 20
LINE = (
    "6,1001,607,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    f"oom_memcg=/paas-x/{C},task_memcg=/paas-x/{C}/component,task=python3,pid=28164,uid=101000"
)


def test_the_group_and_the_process_are_read() -> None:
    assert read_kill(LINE) == (C, "python3 (process 28164)")
    strange = LINE.replace("task=python3", "task=a,pid=1,b")
    assert read_kill(strange) == (C, "a,pid=1,b (process 28164)")


def test_other_lines_and_other_groups_tell_nothing() -> None:
    assert read_kill("6,1,2,-;port 1 entered blocking state") is None
    assert read_kill(LINE.replace(f"/paas-x/{C}/component", "/system.slice")) is None


def test_only_what_was_told_after_the_opening_counts(tmp_path: Path) -> None:
    device = tmp_path / "kmsg"
    device.write_text("")
    log = KernelLog(str(device))
    assert log.victim(C) == ""
    device.write_text(LINE)
    assert log.victim("cd" * 20) == ""
    assert log.victim(C) == "python3 (process 28164)"
    assert log.victim(C) == ""  # told once
    log.close()
    log.close()
    assert log.victim(C) == ""


def test_without_the_device_there_is_no_answer_and_no_error(tmp_path: Path) -> None:
    assert KernelLog(str(tmp_path / "none")).victim(C) == ""
    assert os.listdir(tmp_path) == []
