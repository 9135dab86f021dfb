"""`python -m paas <role>`: the entry point of every process of the platform.

node --state DIR       the node controller: started by `paas dev`, or by systemd in production
cleanup --state DIR    remove what a node that died left in the kernel
hub, containers, certificates        started by the node controller alone
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable

AGENTS = ("certificates", "containers", "hub")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="paas agent run", description="Run one agent.")
    parser.add_argument("role", choices=("node", "cleanup", *AGENTS))
    parser.add_argument("--state", default="", help="state directory (node, cleanup)")
    options = parser.parse_args(arguments)
    if options.role in ("node", "cleanup") and not options.state:
        parser.error(f"{options.role} needs --state DIR")
    # Each role imports only what it runs: processes stay small.
    if options.role == "node":
        from paas.assembly import node

        return node.run(options.state)
    if options.role == "cleanup":
        from paas.assembly import cleanup

        return cleanup.run(options.state)
    from paas.assembly import process

    process.run(options.role, _body(options.role))
    return 0


def _body(role: str) -> Callable[..., Awaitable[None]]:
    if role == "certificates":
        from paas.assembly import certificates

        return certificates.body
    if role == "containers":
        from paas.assembly import containers

        return containers.body
    from paas.assembly import hub

    return hub.body


if __name__ == "__main__":
    sys.exit(main())
