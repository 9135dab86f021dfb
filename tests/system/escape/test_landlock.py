"""Rules of Landlock as this kernel carries them out, and what older kernels would be asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from paas.real import kernel_capabilities as power
from paas.real import kernel_landlock as landlock
from paas.real.kernel_landlock import Right, Scope

pytestmark = pytest.mark.system

_READ = Right.READ_FILE | Right.READ_DIR | Right.EXECUTE
_NOTHING = Scope(0)


def _in_child(rules: int, attempt: Callable[[], object]) -> str:
    """What an attempt comes to in a child under these rules."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            power.no_new_privileges()
            landlock.restrict(rules, landlock.version())
            attempt()
            code = 0
        except OSError as exc:
            code = exc.errno or 98
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "ok" if code == 0 else os.strerror(code)


@pytest.fixture
def rules(tmp_path: Path) -> int:
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("x")
    allowed = [
        ("/", _READ),
        (str(tmp_path / "mine"), landlock.known_rights(landlock.version())),
        (str(tmp_path / "absent"), Right.WRITE_FILE),
    ]
    return landlock.make_rules(allowed, _NOTHING, landlock.version())


def test_what_is_not_named_is_not_written(tmp_path: Path, rules: int) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    assert _in_child(rules, lambda: (mine / "file").write_text("x")) == "ok"
    assert _in_child(rules, lambda: (theirs / "file").read_text()) == "ok"
    assert _in_child(rules, lambda: (theirs / "file").write_text("y")) == "Permission denied"
    assert _in_child(rules, lambda: (theirs / "file").unlink()) == "Permission denied"
    assert _in_child(rules, lambda: (theirs / "new").mkdir()) == "Permission denied"
    assert (theirs / "file").read_text() == "x"


def test_rules_outlive_execve_and_hold_for_root(tmp_path: Path, rules: int) -> None:
    target = tmp_path / "theirs" / "by-another-program"

    def become() -> None:
        os.execv("/bin/sh", ["sh", "-c", f"echo x > {target}"])

    assert _in_child(rules, become) != "ok"
    assert not target.exists()


def test_no_mount_is_changed_under_rules(rules: int) -> None:
    from paas.real import kernel_mounts, kernel_namespaces

    def attempt() -> None:
        kernel_namespaces.unshare(kernel_namespaces.NEW_MOUNT)
        kernel_mounts.mount("x", "/tmp", "tmpfs")

    assert _in_child(rules, attempt) == "Operation not permitted"


def test_a_scope_keeps_signals_in() -> None:
    generation = landlock.version()
    rules = landlock.make_rules([("/", _READ)], Scope.SIGNALS, generation)
    outside = os.fork()
    if outside == 0:
        signal.pause()
        os._exit(0)
    try:
        found = _in_child(rules, lambda: os.kill(outside, 0))
    finally:
        os.kill(outside, signal.SIGKILL)
        os.waitpid(outside, 0)
    assert found == ("Operation not permitted" if generation >= 6 else "ok")


def test_older_generations_are_asked_for_what_they_know() -> None:
    assert landlock.make_rules([("/", _READ)], _NOTHING, 0) == -1
    assert landlock.make_rules([("/", _READ)], _NOTHING, 1) == -1
    assert Right.TRUNCATE not in landlock.known_rights(2)
    assert Right.IOCTL_DEV not in landlock.known_rights(4)
    assert landlock.known_rights(7) == Right(0xFFFF)
    if landlock.version() >= 2:
        rules = landlock.make_rules([("/", Right(0xFFFF))], Scope.SIGNALS, 2)
        assert rules >= 0
        os.close(rules)
