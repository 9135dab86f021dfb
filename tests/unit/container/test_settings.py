"""Settings that cannot work are refused before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.settings import ContainerSettings, check

GOOD = ContainerSettings(cluster="dev", state_dir="/s", bridge="pbdev", link_prefix="pvdev")


def test_good_ones_are_returned() -> None:
    assert check(GOOD) is GOOD
    assert (GOOD.cgroup, GOOD.table) == ("paas-dev", "paas-dev")


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster": "A b"},
        {"bridge": "a-very-long-name"},
        {"bridge": "9x"},
        {"link_prefix": "elevenchars"},
        {"link_prefix": "pb"},
        {"network": "10.0.0.0/30"},
        {"network": "10.0.0.1/24"},
        {"network": "nonsense"},
        {"state_dir": "relative"},
        {"state_dir": "/a,b"},
        {"uid_base": 5},
        {"uid_base": (1 << 32) - 1},
        {"disk": "tape"},
        {"backend": "chroot"},
        {"harness": "nothing"},
    ],
)
def test_bad_ones_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(PlatformError) as caught:
        check(replace(GOOD, **changes))
    assert caught.value.data["field"] == next(iter(changes))
