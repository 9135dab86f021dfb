"""`python -m paas join`: one run on a machine that is to become a node of a cluster.

The token comes on standard input, what was joined goes to standard output as JSON:
{"cluster", "node", "peers"}; an error is the last line on standard error, `error: CODE: TEXT`, and
the line before it, `hint: TEXT`, says what to do about it.

Invariants: node.json is written last and makes the state directory that of a node, so a run that
was interrupted can be repeated with the same token; the node's key belongs to the user of the
certificate manager before the node is ever started.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from paas import __version__
from paas.assembly.node_settings import NODE_FILE, node_settings
from paas.base.errors import PlatformError
from paas.bundle.files import sync_directory
from paas.certificates.client import join
from paas.certificates.join_client import JoinedCluster
from paas.node.settings import CERTIFICATES_UID, runtime_of
from paas.real.clock import SystemClock
from paas.real.files import SystemFiles

TOKEN_CHARACTERS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says: who wants to join, where, and where it will listen."""

    state: str
    node: str
    address: str
    listen: str
    join_listen: str
    containers: str


def run(wish: Wish) -> int:
    """Join; the exit status."""
    if os.geteuid() != 0:
        sys.stderr.write("error: unsupported: a node needs root\n")
        return 1
    token = sys.stdin.readline(TOKEN_CHARACTERS_MAX).strip()
    error: PlatformError | None = None
    try:
        joined = _join(wish, token)
    except* PlatformError as group:
        error = _first(group)
    if error is not None:
        if error.hint:
            sys.stderr.write(f"hint: {error.hint}\n")
        sys.stderr.write(f"error: {error.code}: {error.message}\n")
        return 1
    facts = {"cluster": joined.cluster, "node": joined.node, "peers": joined.peers}
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


def _first(group: BaseException) -> PlatformError:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    assert isinstance(group, PlatformError)
    return group


def _join(wish: Wish, token: str) -> JoinedCluster:
    if os.path.exists(f"{wish.state}/{NODE_FILE}"):
        raise PlatformError("conflict", f"{wish.state} belongs to a node already")
    directory = f"{wish.state}/certificates"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    ask = partial(
        join,
        wish.address,
        token,
        node=wish.node,
        listen_address=wish.listen,
        files=SystemFiles(directory),
        clock=SystemClock(),
        version=__version__,
    )
    joined = trio.run(ask)
    _give_away(directory)
    # Checked as it will be read: what cannot be read must not make this directory that of a node.
    facts = _facts(wish, joined)
    node_settings(wish.state, joined.cluster, facts)
    _write(f"{wish.state}/cluster.json", {**_known(wish.state), "name": joined.cluster})
    _write(f"{wish.state}/{NODE_FILE}", facts)
    return joined


def _facts(wish: Wish, joined: JoinedCluster) -> dict[str, Any]:
    return {
        "cluster": joined.cluster,
        "node": joined.node,
        "listen": wish.listen,
        "join": wish.join_listen,
        "peers": joined.peers,
        "kind": "join",
        "containers": wish.containers,
    }


def _give_away(directory: str) -> None:
    """The key was made by root, and is the certificate manager's."""
    names: Sequence[str] = os.listdir(directory)
    for path in (directory, *(f"{directory}/{name}" for name in names)):
        os.chown(path, CERTIFICATES_UID, CERTIFICATES_UID)


def _known(state: str) -> dict[str, Any]:
    try:
        with open(f"{state}/cluster.json", encoding="utf-8") as file:
            known: dict[str, Any] = json.load(file)
            return known
    except FileNotFoundError:
        runtime = runtime_of(os.path.realpath(state))
        return {"runtime": runtime, "development": True, "version": __version__}


def _write(path: str, facts: dict[str, Any]) -> None:
    """Whole or not at all, and for good."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(f"{path}.new", 0o644)
    os.replace(f"{path}.new", path)
    sync_directory(Path(path).parent)
