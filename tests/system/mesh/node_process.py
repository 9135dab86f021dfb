"""A hub as a process of its own, which may be short of descriptors.

Input: one JSON line {certificate, key, node, knows, descriptors}.  Output: the port, once it
listens.  Requests: "echo", and "told", which answers with its troubles.
"""

from __future__ import annotations

import json
import os
import resource
import sys

import trio

from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.mesh_hubs import Authority, Hub
from paas.wire import codec


async def run() -> None:
    wanted = json.loads(sys.stdin.readline())
    saved = (wanted["certificate"].encode(), wanted["key"].encode())

    def on_request(peer: Peer, request: Request) -> None:
        told = codec.pack([list(trouble) for trouble in hub.troubles])
        peer.reply(request, told if request.method == "told" else request.params)

    hub = Hub(Authority("c1", saved=saved), wanted["node"], on_request=on_request)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.mesh.run)
        hub.mesh.set_peers(wanted["knows"])
        if wanted["descriptors"]:
            left = len(os.listdir("/proc/self/fd")) + wanted["descriptors"]
            resource.setrlimit(resource.RLIMIT_NOFILE, (left, left))
        sys.stdout.write(f"{hub.network.port}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(run)
