"""`python -m paas.dns --zone FILE --listen HOST:PORT`: a name server without a cluster.

The zone is a file of lines `NAME KIND DATA`, names within the zone.  For tests and measurements of
the server alone; a line `listening HOST:PORT` on its standard output says when it answers.  (io)
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

import trio

from paas.dns import limits, names, records
from paas.dns.names import Labels
from paas.dns.rates import Rates
from paas.dns.responder import Face, Responder
from paas.dns.server import Server, bind_both
from paas.dns.transfer import parse_secondary
from paas.dns.tsig import parse_keys
from paas.dns.zone import Set, StaticZone


def read_zone(text: str, origin: Labels, ttl_s: int) -> StaticZone:
    """The zone of such a file."""
    found: dict[Labels, dict[int, list[bytes]]] = {}
    for line in text.splitlines():
        name, kind, data = line.split(None, 2)
        sets = found.setdefault(names.parse(name), {})
        sets.setdefault(records.KINDS[kind], []).append(records.from_text(kind, data, origin))
    content = {
        labels: {kind: Set(ttl_s, tuple(data)) for kind, data in sets.items()}
        for labels, sets in found.items()
    }
    return StaticZone(origin, content)


async def _serve(given: argparse.Namespace, zone: StaticZone, keys: dict[Labels, bytes]) -> None:
    host, _, port = given.listen.rpartition(":")
    rates = Rates(given.rate) if given.rate else None
    face = Face(zone, rates=rates)
    server = Server(
        responder=Responder(
            now_s=time.time,
            keys=keys,
            secondaries=tuple(parse_secondary(one) for one in given.secondary),
        ),
        face_of=lambda _source: face,
        now_s=time.monotonic,
        wall_s=time.time,
    )
    udp, tcp = await bind_both(host, int(port))
    gc.freeze()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve_udp, udp)
        await nursery.start(server.serve_tcp, tcp)
        sys.stdout.write(f"listening {host}:{udp.getsockname()[1]}\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m paas.dns")
    parser.add_argument("--zone", required=True, help="file of lines NAME KIND DATA")
    parser.add_argument("--origin", default=limits.ZONE_DEFAULT)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--ttl", type=int, default=limits.TTL_COMPONENT_S)
    parser.add_argument("--rate", type=int, default=0, help="answers a second and network; 0: any")
    parser.add_argument("--keys", default="", help="file of lines NAME BASE64")
    parser.add_argument("--secondary", action="append", default=[], help="HOST[:PORT][/KEY]")
    given = parser.parse_args()
    origin = names.parse(given.origin)
    zone = read_zone(Path(given.zone).read_text(), origin, given.ttl)
    keys = parse_keys(Path(given.keys).read_text()) if given.keys else {}
    trio.run(_serve, given, zone, keys)


if __name__ == "__main__":
    main()
