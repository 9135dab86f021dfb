"""Two hubs in a network namespace of their own, cut apart with the packet filter.

Run under `unshare --net`.  Prints one JSON line with what was seen; the test judges it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import trio

from paas.testing.mesh_hubs import Authority, Hub, complete, meet, until
from paas.wire import codec

PERIOD_S = 0.1


def command(line: str) -> None:
    subprocess.run(line.split(), check=True)


async def beat(hub: Hub, node: str) -> None:
    """What a log does: small frames for ever."""
    while True:
        hub.mesh.raft().send(node, b"beat")
        await trio.sleep(PERIOD_S)


async def cut_for(length_s: float, one_way: bool, hubs: list[Hub]) -> dict[str, Any]:
    """One cut: who noticed while it lasted, and how long it took afterwards."""
    where = f"tcp dport {hubs[1].network.port} drop"
    command(f"nft add rule inet mesh input {where}")
    if not one_way:
        command(f"nft add rule inet mesh input {where.replace('dport', 'sport')}")
    await trio.sleep(length_s)
    noticed = [hub.mesh.connected() for hub in hubs]
    for hub in hubs:
        hub.frames.messages.clear()
    command("nft flush chain inet mesh input")
    begun = trio.current_time()
    await complete(hubs)
    await until(lambda: all(hub.frames.messages for hub in hubs))
    healed_s = trio.current_time() - begun
    body = codec.pack("whole")
    assert await hubs[0].peer("n2").call_raw("echo", body, 10.0) == body
    return {"length_s": length_s, "one_way": one_way, "noticed": noticed, "healed_s": healed_s}


async def run() -> None:
    command("ip link set lo up")
    command("nft add table inet mesh")
    command("nft add chain inet mesh input { type filter hook input priority 0 ; }")
    authority = Authority("c1")
    hubs = [Hub(authority, node) for node in ("n1", "n2")]
    async with trio.open_nursery() as nursery:
        for hub in hubs:
            await nursery.start(hub.mesh.run)
        meet(hubs)
        await complete(hubs)
        nursery.start_soon(beat, hubs[0], "n2")
        nursery.start_soon(beat, hubs[1], "n1")
        seen = [
            await cut_for(length_s, one_way, hubs)
            for length_s, one_way in ((1.0, False), (4.5, False), (4.5, True))
        ]
        nursery.cancel_scope.cancel()
    sys.stdout.write(json.dumps({"cuts": seen, "troubles": hubs[0].troubles}) + "\n")


if __name__ == "__main__":
    trio.run(run)
