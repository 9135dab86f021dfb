"""What is missing is named with its cure; what is only better is not demanded."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.container.probe import Check, probe, require


def test_everything_needed_is_there() -> None:
    require([Check("a", True, "fine"), Check("b", False, "slow", "cure", needed=False)])


def test_missing_things_are_all_named_with_the_first_cure() -> None:
    checks = [
        Check("root", False, "not root", "run as root"),
        Check("overlayfs", False, "no overlayfs", "modprobe overlay"),
        Check("layers", False, "in memory", "", needed=False),
    ]
    with pytest.raises(PlatformError) as caught:
        require(checks)
    assert caught.value.code == "unsupported"
    assert "not root; no overlayfs" in caught.value.message
    assert caught.value.hint == "run as root"
    assert caught.value.data["missing"] == ["root", "overlayfs"]


def test_every_check_of_this_machine_has_a_name_and_words() -> None:
    checks = probe()
    assert len({c.name for c in checks}) == len(checks)
    assert all(c.detail for c in checks)
    assert all(c.cure for c in checks if not c.ok)
