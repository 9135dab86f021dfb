"""Commands about the cluster as a whole: status, members, beginning, joining, recovering (io)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from paas.base.errors import Exit, PlatformError, invalid
from paas.cli import dns_query, joining, place, supervisor, texts, watching
from paas.cli.dev import start_detached
from paas.cli.output import Column
from paas.cli.session import Session


def status(session: Session, *, watch: bool) -> None:
    watching.show(
        session,
        lambda: session.call("cluster.status"),
        lambda found: session.output.value(found, _summary(session, found), [found["cluster"]]),
        watch,
    )


def _summary(session: Session, found: dict[str, Any]) -> str:
    output = session.output
    lines = [f"cluster {found['cluster']}  version {found['version']}"]
    for node in found["nodes"]:
        extra = {k: v for k, v in node.items() if k not in ("name", "state")}
        text = f"  {node.get('name', '?')}  {output.state(str(node.get('state', '?')))}"
        lines.append(f"{text}  {texts.fields(extra)}".rstrip())
    lines.append(f"log     {texts.fields(found['log'])}")
    counts = {state: n for state, n in found["components"].items() if n}
    lines.append(f"types   {found['types']}")
    lines.append(f"components  {texts.fields(counts) or 'none'}")
    if found.get("url"):
        lines.append(f"api     {found['url']}")
    return "\n".join(lines)


def members(session: Session, *, watch: bool) -> None:
    """Who takes part in the replicated log."""
    output = session.output
    columns: tuple[Column, ...] = (
        ("NODE", lambda m: m["node"]),
        ("ROLE", lambda m: m["role"]),
        ("STATE", lambda m: output.state(m.get("state") or "?")),
        ("BEHIND", lambda m: "-" if m.get("behind") is None else str(m["behind"])),
        ("ADDRESS", lambda m: m.get("address") or "-"),
    )

    def print_(found: dict[str, Any]) -> None:
        output.rows("members", found["members"], columns, "node")
        if found.get("change"):
            output.note(found["change"])

    watching.show(session, lambda: session.call("cluster.members"), print_, watch)


def voters(session: Session, *, voters: str, request_id: str | None) -> None:
    """Have so many nodes vote in the replicated log."""
    if not voters.isdecimal():
        raise invalid("voters", "expected an odd number")
    params = {"voters": int(voters)}
    found = session.change("cluster.want_voters", params, request_id=request_id)
    now = sum(member["role"] != "observer" for member in found["members"])
    text = f"{found['wanted']} nodes are to vote; {now} do of {len(found['members'])}"
    session.output.value(found, text, [str(found["wanted"])])


def token(session: Session, *, ttl: float | None, list_: bool, revoke: str) -> None:
    """A token with which one node may join; or what became of the others."""
    if sum((ttl is not None, list_, bool(revoke))) > 1:
        raise invalid("ttl", "one of --ttl, --list and --revoke at a time")
    if list_:
        _tokens(session)
    elif revoke:
        _revoke(session, revoke)
    else:
        _create_token(session, ttl)


def _tokens(session: Session) -> None:
    output = session.output
    columns: tuple[Column, ...] = (
        ("ID", lambda t: t["id"]),
        ("STATE", lambda t: output.state(t["state"])),
        ("NODE", lambda t: t.get("node") or "-"),
        ("EXPIRES", lambda t: texts.moment(t["expires"])),
    )
    output.rows("tokens", session.call("cluster.tokens")["tokens"], columns, "id")


def _revoke(session: Session, which: str) -> None:
    found = session.change("cluster.revoke_token", {"token": which})
    used = f"; {found['node']} has used it, and stays" if found.get("node") else ""
    text = f"the join token {found['id']} lets nobody in any more{used}"
    session.output.value(found, text, [found["id"]])


def _create_token(session: Session, ttl: float | None) -> None:
    params = {} if ttl is None else {"ttl": ttl}
    found = session.change("cluster.create_token", params)
    session.output.value(found, found["token"], [found["token"]])
    left = texts.age(max(0.0, found["expires"] - time.time()))
    session.output.note(f"for one node, within {left}: paas cluster join {found['address']}")


def init(session: Session, *, name: str, listen: str | None, as_: str) -> None:
    """Begin a cluster with one node that others can join."""
    state, node = _fresh(session), as_
    check_name("name", name)
    check_name("as", node)
    where = joining.Listen.of(listen or joining.own_address())
    started = time.monotonic()
    supervisor.prepare(state)
    supervisor.write_cluster(state, pid=None, node_pid=None, name=name)
    joining.write_node(state, cluster=name, node=node, listen=where)
    start_detached(state)
    took = time.monotonic() - started
    text = f"{session.output.state('ready')}  cluster {name} in {took:.1f}s  join: {where.join}"
    value = {"cluster": name, "node": node, "listen": where.hub, "join": where.join}
    session.output.value({**value, "state": str(state)}, text, [name])
    session.output.note("next: paas cluster token")


def join(
    session: Session,
    *,
    address: str,
    token: str,
    name: str,
    listen: str | None,
    dns: str,
) -> None:
    """Make this machine a node of a cluster, and start it."""
    state = _fresh(session)
    check_name("name", name)
    if dns_query.is_name(address):
        address = dns_query.find_joining(address, dns)
    secret = sys.stdin.readline().strip() if token == "-" else token
    where = joining.Listen.of(listen or joining.own_address())
    started = time.monotonic()
    supervisor.prepare(state)
    running = joining.Join(
        state,
        node=name,
        address=joining.join_address(address),
        listen=where,
        spawn=joining.spawn_here,
    )
    try:
        running.send_token(secret)
        joined = running.wait()
    finally:
        running.close()
    start_detached(state)
    took = time.monotonic() - started
    dot = "● " if session.output.unicode else ""
    text = f"{dot}{joined['node']} joined {joined['cluster']} in {took:.1f}s"
    session.output.value({**joined, "state": str(state)}, text, [joined["node"]])


def recover(session: Session, *, i_accept_losses: str | None) -> int:
    """The way out of a lost quorum: this node alone goes on, with what it has."""
    state = Path(os.path.realpath(session.state))
    cluster = place.require_cluster(state)
    if cluster.nodes:
        one = cluster.node_state(cluster.nodes[0])
        raise PlatformError(
            "invalid",
            "recover works on one node: name its own state directory",
            hint=f"for example: paas cluster recover --state {one}",
        )
    if place.running(state):
        raise PlatformError(
            "conflict",
            f"the node with its state in {state} runs",
            hint="end it first, as all others that still run",
        )
    if i_accept_losses != cluster.name:
        found = _recover(state)
        raise PlatformError(
            "refused",
            f"nothing was done. {LOSSES.format(**found, majority=', '.join(found['voters']))}",
            hint=f"if no majority can come back: --i-accept-losses {cluster.name}",
            **found,
        )
    found = _recover(state, "--force")
    text = f"{cluster.name} goes on with {found['node']} alone, from entry {found['index']}"
    session.output.value(found, text, [cluster.name])
    session.output.note("start the node; the others join again with empty state directories")
    return Exit.DONE


def _recover(state: Path, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        [*supervisor.agent_command("recover", state), *more],
        capture_output=True,
        text=True,
        env=supervisor.environment(),
        check=False,
    )
    if done.returncode:
        raise joining.error_of(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


LOSSES = (
    "{node} has entries up to {last_index} of term {last_term} and knows that those up to "
    "{commit_index} count. Going on with it alone loses every change that a majority of {majority} "
    "has acknowledged without it; if others still run, there are two clusters with one name. Of "
    "several nodes that are left, the one with the largest term, then entry, loses least."
)


def _fresh(session: Session) -> Path:
    """The state directory, which must not be a cluster's or a node's; and we must be root."""
    if os.geteuid() != 0:
        raise PlatformError(
            "unsupported",
            f"user {os.geteuid()} is not root, and a node makes namespaces, mounts and links",
        )
    state = Path(os.path.realpath(session.state))
    if place.read_cluster(state) is not None or (state / place.NODE_FILE).exists():
        raise PlatformError(
            "conflict",
            f"{state} has a cluster already",
            hint="use another one: --state DIR   or remove it: paas down --purge",
        )
    return state


_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def check_name(field: str, name: str) -> None:
    """Names of clusters and nodes stand in certificates and host names."""
    if not _NAME.fullmatch(name):
        raise invalid(
            field, f"expected 1 to 32 lower-case letters, digits, inner hyphens, not {name!r}"
        )
