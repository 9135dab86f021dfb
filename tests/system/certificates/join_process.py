"""A machine that joins, as a process of root's: `join_process.py ARGUMENTS-JSON`, token on stdin.

Prints one JSON line: what was joined, or the error.  `ahead_s` is how wrong its clock is.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import trio

from paas.assembly.certificates import ManagerFiles
from paas.base.errors import PlatformError
from paas.certificates import client
from paas.real.clock import SystemClock


class WrongClock(SystemClock):
    """The machine's clock, off by some seconds."""

    ahead_s = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_s * 1_000


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    clock = WrongClock()
    clock.ahead_s = arguments.get("ahead_s", 0)
    try:
        joined = trio.run(
            partial(
                client.join,
                arguments["address"],
                sys.stdin.read(),
                node=arguments["node"],
                listen_address=arguments["listen"],
                files=ManagerFiles(arguments["directory"], arguments["uid"]),
                clock=clock,
            )
        )
        answer = {"cluster": joined.cluster, "node": joined.node, "peers": joined.peers}
    except PlatformError as exc:
        answer = {"code": exc.code, "message": exc.message, "hint": exc.hint}
    sys.stdout.write(json.dumps(answer) + "\n")
