"""What goes wrong in the world, by address.  Pure.

    /faults/status/503/REST     this status, always          /faults/flaky/REST    503, one in three
    /faults/moved/REST          301 to REST                  /faults/found/REST    302 to REST
    /faults/loop                a redirect to itself         /faults/chain/N/REST  N permanent ones
    /faults/slow/S/REST         after S seconds              /faults/drip/S/REST   by and by
    /faults/cut/REST            ends too early               /faults/gone          410
    /faults/later               429, Retry-After             /faults/garbage       no HTTP at all
    /faults/bomb                gzip, 1000 times its size    /faults/huge          12 MiB
    /faults/entities            an XML document that unfolds without end (and its relatives)

REST is an address of the site; the answer to it is as always, if it is not what goes wrong.
"""

from __future__ import annotations

import gzip

from answers import Answer

BOMB_BYTES = 64 << 20
HUGE_BYTES = 12 << 20
ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b"]><rss version='2.0'><channel><title>&j;</title></channel></rss>"
)


def plan(path: str, count: int) -> tuple[Answer | None, str]:
    """What is answered to request number `count` of this address; or the address it stands for."""
    _, _, kind, *words = path.split("/")
    rest = "/" + "/".join(words)
    if kind in ("status", "slow", "drip", "chain") and words:
        return _measured(kind, words[0], "/" + "/".join(words[1:]))
    if kind == "flaky" and count % 3:
        return None, rest
    return _fixed(kind, rest), rest


def _measured(kind: str, number: str, rest: str) -> tuple[Answer | None, str]:
    if kind == "status":
        return Answer(int(number), {"content-type": "text/plain"}, b"as you wished\n"), rest
    if kind == "chain":
        left = int(number) - 1
        target = f"/faults/chain/{left}{rest}" if left > 0 else rest
        return Answer(301, {"location": target}), rest
    delay, drip = (float(number), 0.0) if kind == "slow" else (0.0, float(number))
    body = b"<rss><channel><title>slow</title></channel></rss>"
    return Answer(200, {"content-type": "text/xml"}, body, delay, drip), rest


def _fixed(kind: str, rest: str) -> Answer:
    xml = {"content-type": "application/xml"}
    if kind == "bomb":
        headers = {**xml, "content-encoding": "gzip"}
        return Answer(200, headers, gzip.compress(bytes(BOMB_BYTES), 9, mtime=0))
    if kind == "huge":
        return Answer(200, xml, b"<rss>" + b" " * HUGE_BYTES)
    made = {
        "flaky": Answer(503, {"retry-after": "1"}, b"not now\n"),
        "moved": Answer(301, {"location": rest}),
        "found": Answer(302, {"location": rest}),
        "loop": Answer(301, {"location": "/faults/loop"}),
        "gone": Answer(410, {"content-type": "text/plain"}, b"gone for good\n"),
        "later": Answer(429, {"retry-after": "7"}, b"too often\n"),
        "cut": Answer(200, xml, b"<rss><channel><title>half" + b" " * 900, cut=True),
        "garbage": Answer(0, {}, b"\x00\x01\x02 this is no HTTP\r\n\r\n"),
        "entities": Answer(200, xml, ENTITIES),
    }
    return made.get(kind, Answer(404, {"content-type": "text/plain"}, b"no such fault\n"))
