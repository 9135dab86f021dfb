"""`python -m paas <role>`: the entry point of every process of the platform.

node --state DIR       the node controller: started by `paas dev`, or by systemd in production
cleanup --state DIR    remove what a node that died left in the kernel
join --state DIR …     join a cluster, before the node is started for the first time
recover --state DIR    look at the log of a stopped node; with --force it goes on alone
hub, containers, certificates        started by the node controller alone
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Awaitable, Callable

AGENTS = ("certificates", "containers", "hub")
WITH_STATE = ("node", "cleanup", "join", "recover")
JOINING = ("node", "address", "listen", "join-listen", "containers")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="paas agent run", description="Run one agent.")
    parser.add_argument("role", choices=(*WITH_STATE, *AGENTS))
    parser.add_argument("--state", default="", help="state directory (not for agents)")
    for name in JOINING:
        parser.add_argument(f"--{name}", default="", help="(join)")
    parser.add_argument("--force", action="store_true", help="(recover)")
    options = parser.parse_args(arguments)
    if options.role in WITH_STATE and not options.state:
        parser.error(f"{options.role} needs --state DIR")
    # Each role imports only what it runs: processes stay small.
    if options.role == "cleanup":
        from paas.assembly import cleanup

        return cleanup.run(options.state)
    if options.role == "join":
        return _join(options)
    if options.role == "recover":
        from paas.assembly import recovering

        return recovering.run(options.state, force=options.force)
    gc.disable()
    if options.role == "node":
        from paas.assembly import node

        _collect_from_here()
        return node.run(options.state)
    from paas.assembly import process

    body = _body(options.role)
    _collect_from_here()
    process.run(options.role, body)
    return 0


def _collect_from_here() -> None:
    """What modules made when they were imported stays: garbage is looked for in the rest alone."""
    gc.freeze()
    gc.enable()


def _join(options: argparse.Namespace) -> int:
    from paas.assembly import joining

    return joining.run(
        joining.Wish(
            state=options.state,
            node=options.node,
            address=options.address,
            listen=options.listen,
            join_listen=options.join_listen,
            containers=options.containers,
        )
    )


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
