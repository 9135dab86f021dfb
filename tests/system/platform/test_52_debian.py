"""A Debian built from its packages as the base of a component: slow, and needs a mirror."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paas.testing.leftovers import picture

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PROGRAM = """
. /etc/os-release; echo "system $VERSION_CODENAME"
dpkg-query -W dpkg > /dev/null && echo "packages known"
perl -e 'print "perl runs\\n"'
cat /etc/shadow > /dev/null 2>&1 || echo "shadow kept"
find / -xdev -perm /6000 -type f 2> /dev/null | wc -l | sed 's/^/set-user programs /'
ls /usr/share/man 2> /dev/null | wc -l | sed 's/^/manuals /'
echo done
sleep 1000
"""


def test_debian_12_is_built_and_runs(platform: Any, wait_until: Callable[..., Any]) -> None:
    done = platform.run("images", "build", "debian-12", "--name", "bookworm", timeout_s=800)
    assert "installing essential packages" in done.err
    source = platform.source(
        "on-bookworm", ["sh", "/app/main.sh"], text='base = "bookworm"', files={"main.sh": PROGRAM}
    )
    kind = platform.push(source)
    component = platform.create(kind, timeout_s=60)

    def lines() -> list[str]:
        found = [record["message"] for record in platform.records(component=component)]
        return found if "done" in found else []

    said = wait_until(lines)
    assert "system bookworm" in said
    assert "packages known" in said
    assert "perl runs" in said
    assert "shadow kept" in said
    assert "set-user programs 0" in said
    assert "manuals 0" in said
    platform.run("images", "verify", "bookworm")
    platform.destroy(component)
    platform.run("types", "remove", kind, "--yes")
    platform.run("images", "remove", "bookworm", "--yes")
    assert not [line for line in picture(str(platform.state)) if "mmdebstrap" in line]
