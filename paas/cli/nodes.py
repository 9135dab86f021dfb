"""Commands about nodes: list, show, cordon, uncordon, drain, remove; faults by hand (io).

Faults are for development clusters whose nodes are machines of their own: what they do is done to
the machine, from outside, and the cluster is not told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from paas.base.errors import Exit, PlatformError
from paas.cli import partition as cuts
from paas.cli import place, texts, watching
from paas.cli.output import Column
from paas.cli.session import Session

if TYPE_CHECKING:
    from paas.cli.fleet import Fleet

# -- what the cluster knows ----------------------------------------------------------------------


def nodes(session: Session, *, watch: bool) -> None:
    output = session.output
    columns: tuple[Column, ...] = (
        ("NAME", lambda n: n["name"]),
        ("STATE", lambda n: output.state(n["state"]) + _marks(n)),
        ("ROLE", lambda n: n.get("role") or "-"),
        ("ADDRESS", lambda n: n.get("address") or "-"),
        ("COMPONENTS", lambda n: str(n.get("components", 0))),
        ("SINCE", lambda n: texts.age(time.time() - n["since"])),
        ("MEMORY*", lambda n: texts.size(n.get("memory"))),
        ("CPU*", lambda n: f"{n.get('cpu', 0):g}"),
        ("VNODES*", lambda n: str(n.get("virtual_nodes", 0))),
        ("VERSION*", lambda n: n.get("version") or "-"),
        ("REASON*", lambda n: n.get("reason") or "-"),
    )
    watching.show(
        session,
        lambda: session.call("nodes.list")["nodes"],
        lambda items: output.rows("nodes", [_timed(n) for n in items], columns),
        watch,
    )


def _marks(node: dict[str, Any]) -> str:
    words = [word for word in ("draining", "cordoned") if node.get(word)][:1]
    if node.get("storage") == "full":
        words.append("disk full")
    return f" ({', '.join(words)})" if words else ""


def _timed(node: dict[str, Any]) -> dict[str, Any]:
    return {**node, "since_time": texts.moment(node["since"])}


def show(session: Session, *, name: str, watch: bool) -> None:
    """Describe one node."""
    watching.show(
        session,
        lambda: session.call("nodes.show", {"node": name}),
        lambda found: session.output.value(_timed(found), _described(session, found), [name]),
        watch,
    )


def _described(session: Session, found: dict[str, Any]) -> str:
    since = f"{texts.age(time.time() - found['since'])}  ({texts.moment(found['since'])})"
    lease = found.get("lease_age")
    lines = [
        ("name", found["name"]),
        ("state", f"{session.output.state(found['state'])}{_marks(found)}  for {since}"),
        ("role", found.get("role") or "-"),
        ("address", found.get("address") or "-"),
        ("lease", "-" if lease is None else f"granted {lease:.1f} s ago"),
        ("components", str(found.get("components", 0))),
        ("storage", found.get("storage") or "ok"),
        ("memory", texts.size(found.get("memory"))),
        ("cpu", f"{found.get('cpu', 0):g}"),
        ("version", found.get("version") or "-"),
        ("reason", found.get("reason") or "-"),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in lines)


def cordon(session: Session, *, name: str, reason: str, request_id: str | None) -> None:
    found = session.change("nodes.cordon", {"node": name, "reason": reason}, request_id=request_id)
    session.output.value(found, f"{name} takes no new components", [name])


def uncordon(session: Session, *, name: str, request_id: str | None) -> None:
    found = session.change("nodes.uncordon", {"node": name}, request_id=request_id)
    session.output.value(found, f"{name} takes components again", [name])


def drain(
    session: Session,
    *,
    name: str,
    grace: float | None,
    timeout: float | None,
    request_id: str | None,
) -> int:
    """Wait until nothing is left on it; exit status 8 when something still is."""
    params: dict[str, Any] = {"node": name}
    if grace is not None:
        params["grace"] = grace
    started = time.monotonic()
    still = f"{name} is still being drained; see: paas nodes show {name} -w"
    try:
        found = session.change(
            "nodes.drain", params, request_id=request_id, timeout_s=timeout or DRAIN_TIMEOUT_S
        )
    except KeyboardInterrupt:
        session.output.note(still)
        raise
    took = time.monotonic() - started
    left = int(found["left"])
    if not left:
        session.output.value(found, f"{name} is empty after {took:.1f}s", [name])
        return Exit.DONE
    waiting = [f"  {c[:8]} {why}" for c, why in found.get("components", {}).items()]
    session.output.value(found, "\n".join([f"{left} left on {name}", *waiting]), [name])
    session.output.note(still)
    return Exit.PENDING


DRAIN_TIMEOUT_S = 300.0
"""How long a drain is waited for, unless another time is asked for; it goes on by itself."""


def remove(
    session: Session,
    *,
    name: str,
    force: bool,
    yes: bool,
    dry_run: bool,
    request_id: str | None,
) -> int:
    """Take a node out of the cluster for good."""
    if dry_run:
        found = session.call("nodes.show", {"node": name})
        text = f"would remove {name} ({found['state']}, {found.get('components', 0)} components)"
        session.output.value({"would": "remove", "node": name}, text, [name])
        return Exit.DONE
    if not session.confirmed(f"This removes {name} from the cluster for good", name, yes):
        return Exit.FAILED
    params = {"node": name, "force": force}
    session.change("nodes.remove", params, request_id=request_id)
    session.output.value({"node": name, "removed": True}, f"{name} is removed", [name])
    return Exit.DONE


# -- faults by hand ------------------------------------------------------------------------------


def _fleet(session: Session) -> Fleet:
    from paas.cli.fleet import Fleet

    cluster = place.require_cluster(session.state)
    if not cluster.nodes or not cluster.development:
        raise PlatformError(
            "refused",
            f"the nodes of {cluster.name} are not machines that this command has made",
            hint="start such a cluster: paas dev --nodes 3",
        )
    return Fleet(cluster, report=session.output.note)


def kill(session: Session, *, name: str) -> None:
    """A power cut."""
    fleet = _fleet(session)
    was = fleet.kill(name)
    _say(session, fleet, name, f"{name} is off" if was else f"{name} was off")


def pause(session: Session, *, name: str) -> None:
    """Every process of the node stops; time goes on."""
    fleet = _fleet(session)
    fleet.pause(name)
    _say(session, fleet, name, f"{name} is paused")


def resume(session: Session, *, name: str) -> None:
    """A paused node goes on; one that was killed is switched on."""
    fleet = _fleet(session)
    if not fleet.resume(name):
        session.output.note(f"{name} is not ready yet: perhaps it waits for a majority")
    _say(session, fleet, name, f"{name} runs")


def _say(session: Session, fleet: Fleet, name: str, text: str) -> None:
    condition = fleet.machine(name).condition
    session.output.value({"node": name, "machine": condition}, text, [name])


def partition(session: Session, *, groups: str, one_way: bool) -> None:
    """Cut the network between groups of nodes."""
    fleet = _fleet(session)
    unheard = cuts.deaf(groups, one_way, list(fleet.cluster.nodes))
    fleet.set_unheard(unheard)
    lines = [f"{name} does not hear {', '.join(of)}" for name, of in unheard.items() if of]
    session.output.value({"unheard": unheard}, "\n".join(lines), [groups])


def heal(session: Session) -> None:
    """Every node hears every other again."""
    fleet = _fleet(session)
    fleet.set_unheard({name: [] for name in fleet.cluster.nodes})
    session.output.value({"unheard": {}}, "every node hears every other", ["healed"])
