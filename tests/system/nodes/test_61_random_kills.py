"""Agents are killed all the time, anywhere: nothing that was acknowledged is lost or done twice.

What is done, and why it shows that, is told in paas/testing/registrars.py; `python -m bench.kills`
goes on with it for minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paas.testing.dev_cluster import DevCluster
from paas.testing.registrars import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SEED = 5
KILLS_S = 20.0
KILLS_MIN = 12
COMMANDS_MIN = 400


def test_nothing_is_lost_or_done_twice(
    cluster: DevCluster, record_property: Callable[[str, object], None]
) -> None:
    kind = cluster.api("controller.type", type="actor@1.0.0")
    found = run(cluster, kind, KILLS_S, SEED)
    assert found.wrong == []
    assert sum(found.kills.values()) >= KILLS_MIN
    assert found.commands >= COMMANDS_MIN
    record_property("commands", found.commands)
    record_property("kills", found.kills)
