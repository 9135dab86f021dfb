"""The bridge's hardware address: containers remember it, so it must not change under them."""

import random
from pathlib import Path
from typing import Any


async def test_the_gateway_keeps_its_address_when_containers_come_and_go(fresh_node: Any) -> None:
    bridge = Path("/sys/class/net", fresh_node.settings.bridge)
    async with fresh_node.running():
        before = (bridge / "address").read_text()
        # Set (3), not taken from a port (0, 1): netdevice(7), NET_ADDR_SET.
        assert (bridge / "addr_assign_type").read_text().strip() == "3"
        started = [await fresh_node.start("sleep", "60") for _ in range(6)]
        random.Random(1).shuffle(started)
        for one in started[:3]:
            await fresh_node.engine.destroy(one.component)
        assert (bridge / "address").read_text() == before
