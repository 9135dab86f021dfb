"""What is placed where, and the sums."""

from __future__ import annotations

import random

from paas.controller.loads import Loads
from paas.scheduler.messages import Needs


def test_a_component_is_never_counted_twice() -> None:
    chance = random.Random(1)
    loads = Loads()
    where: dict[str, str] = {}
    for _ in range(500):
        component = str(chance.randrange(20))
        if chance.random() < 0.3:
            loads.drop(component)
            where.pop(component, None)
        else:
            node = chance.choice(["", "a", "b"])
            needs = Needs(memory_bytes=int(component), cpu=0.1 * int(component), disk_bytes=1)
            loads.put(component, node, "t", needs)
            where[component] = node
        for node in ("", "a", "b"):
            here = sorted(c for c, on in where.items() if on == node)
            assert loads.on(node) == here
            sums = loads.of(node)
            assert (sums.components, sums.disk_bytes) == (len(here), len(here))
            assert sums.memory_bytes == sum(map(int, here))
            assert sums.cpu_milli == sum(100 * int(c) for c in here)
