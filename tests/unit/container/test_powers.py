"""Which capabilities may be asked for, and that all who decide it decide the same."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.bundle import manifest, manifest_fields
from paas.container import powers


def test_the_manifest_and_the_node_know_the_same_names() -> None:
    assert set(manifest_fields.CAPABILITIES) == set(powers.GRANTABLE)


@pytest.mark.parametrize("name", ["SYS_ADMIN", "SETUID", "NET_RAW", "CAP_CHOWN", "chown", ""])
def test_others_are_refused_by_the_fields_name(name: str) -> None:
    with pytest.raises(PlatformError, match="capabilities") as caught:
        powers.check(["CHOWN", name])
    assert caught.value.code == "invalid"


def test_twice_the_same_is_refused() -> None:
    with pytest.raises(PlatformError, match="capabilities"):
        powers.check(["CHOWN", "CHOWN"])


def test_numbers_are_the_kernels() -> None:
    assert powers.numbers(["NET_BIND_SERVICE", "CHOWN"]) == (0, 10)
    assert powers.numbers([]) == ()


def test_no_capability_that_reaches_pid_1_can_be_asked_for() -> None:
    kill, setgid, setuid, ptrace, admin = 5, 6, 7, 19, 21
    assert {kill, setgid, setuid, ptrace, admin} & set(powers.GRANTABLE.values()) == set()


_TEXT = """
[component]
name = "web"
version = "1"
command = ["run"]
"""


def test_a_manifest_may_ask_for_some_and_stays_canonical() -> None:
    found = manifest.parse((_TEXT + 'capabilities = ["NET_BIND_SERVICE", "CHOWN"]\n').encode())
    assert found.component.capabilities == ("CHOWN", "NET_BIND_SERVICE")
    assert manifest.from_plain(found.to_plain()) == found
    none = manifest.parse(_TEXT.encode())
    assert none.component.capabilities == ()
    assert manifest.from_plain(none.to_plain()) == none


@pytest.mark.parametrize("value", ['["SYS_ADMIN"]', '"CHOWN"', "[1]", "true"])
def test_a_manifest_that_asks_for_more_is_told_line_and_field(value: str) -> None:
    with pytest.raises(PlatformError) as caught:
        manifest.parse(f"{_TEXT}capabilities = {value}\n".encode())
    assert caught.value.data["field"] == "component.capabilities"
    assert caught.value.data["line"] == 6
