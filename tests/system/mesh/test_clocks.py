"""A node whose clock is minutes off: its certificates have not begun for the others, or have ended.

Nothing else depends on what clocks show: the log and the leases measure spans only
(tests/unit/raft/test_wall_clocks.py, tests/unit/node/test_leases.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from paas.identity.limits import BEGIN_EARLY_S, CLOCK_SKEW_S
from paas.testing.mesh_hubs import DAY_S, Hub, meet, until

pytestmark = pytest.mark.system

TEN_MINUTES_S = 600


async def odd_one(hubs: Any, **identity: Any) -> tuple[Hub, Hub]:
    """Two honest hubs that are connected, and n1, whose certificate was made by another clock."""
    two, three = await hubs.start("n2"), await hubs.start("n3")
    await hubs.connect()
    one = await hubs.start("n1", identity=hubs.authority.identity("n1", **identity))
    meet([one, two, three])
    return one, two


async def test_a_node_whose_clock_is_ten_minutes_fast_is_refused_by_the_others_and_told_why(
    hubs: Any,
) -> None:
    one, two = await odd_one(hubs, begins_in_s=TEN_MINUTES_S)
    await until(lambda: two.trouble("not yet valid"))
    assert one.mesh.connected() == []
    assert two.mesh.connected() == ["n3"]
    assert two.frames.epochs == {"n3": [1]}
    # By the same network, once its certificates are of the present.
    await until(lambda: one.troubles)
    one.transport.renewed(hubs.authority.identity("n1"))
    await until(lambda: two.mesh.connected() == ["n1", "n3"])


async def test_a_node_whose_clock_is_so_slow_that_its_certificate_has_ended_is_refused(
    hubs: Any,
) -> None:
    one, two = await odd_one(hubs, begins_in_s=-TEN_MINUTES_S - DAY_S, life_s=DAY_S)
    await until(lambda: two.trouble("certificate has expired"))
    assert one.mesh.connected() == []
    assert two.frames.epochs == {"n3": [1]}


@pytest.mark.parametrize("ahead_s", [-TEN_MINUTES_S, -CLOCK_SKEW_S, CLOCK_SKEW_S])
async def test_a_node_whose_clock_is_a_minute_off_or_slow_is_not_noticed(
    hubs: Any, ahead_s: int
) -> None:
    """New certificates begin early; old ones are renewed at half of their life."""
    assert ahead_s < BEGIN_EARLY_S
    one, two = await odd_one(hubs, begins_in_s=ahead_s)
    await until(lambda: two.mesh.connected() == ["n1", "n3"])
    assert one.troubles == two.troubles == []
