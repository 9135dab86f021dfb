"""Which rules a component gets, by what its tree holds."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from paas.container import walls
from paas.real import kernel_landlock as landlock
from paas.real.kernel_landlock import Right

_ORDER: Any = SimpleNamespace(
    binds=(("/usr", "/usr"),), volumes=(SimpleNamespace(path="/srv/data/deep"),)
)


def test_everything_is_read_and_what_is_not_the_hosts_is_written() -> None:
    allowed = dict(walls._allowed(_ORDER))
    assert allowed["/"] & Right.WRITE_FILE == 0
    assert allowed["/"] & (Right.READ_FILE | Right.EXECUTE) == Right.READ_FILE | Right.EXECUTE
    assert allowed["/tmp"] & Right.WRITE_FILE
    assert allowed["/srv/data/deep"] & Right.WRITE_FILE
    assert {"/proc", "/sys", "/usr"} & allowed.keys() == set()


def test_no_rule_lets_devices_be_made() -> None:
    for _, rights in walls._allowed(_ORDER):
        assert rights & (Right.MAKE_CHAR | Right.MAKE_BLOCK) == 0


def test_without_landlock_there_are_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    for generation in (0, 1):
        monkeypatch.setattr(landlock, "version", lambda found=generation: found)
        assert walls.file_rules(_ORDER) == -1


def test_a_kernel_that_has_it_switched_off_is_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(landlock, "system_call", refuse)
    assert landlock.version() == 0
