"""Commands about components: create, ps, show, terminate, destroy, link, unlink (io)."""

from __future__ import annotations

import time
from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.cli import inputs, texts, watching
from paas.cli.limits import DESTROY_TIMEOUT_S
from paas.cli.output import Column
from paas.cli.session import Session

SHORT_DIGITS = 8
FILTERS = ("type", "group", "name", "state", "node")


def create(
    session: Session,
    *,
    type_: str,
    count: int,
    name: str,
    group: tuple[str, ...],
    set_: tuple[str, ...],
    link: tuple[str, ...],
    restart: str | None,
    no_wait: bool,
    timeout: float | None,
    request_id: str | None,
) -> None:
    """Print the new ids; in JSON `{"components": [id]}`."""
    params: dict[str, Any] = {
        "type": type_,
        "count": count,
        "name": name,
        "configuration": inputs.read_pairs(set_, "--set"),
        "groups": list(group),
        "links": [session.component_id(other) for other in link],
        "wait": "accepted" if no_wait else "available",
    }
    if restart:
        params["restart"] = restart
    started = time.monotonic()
    result = session.change("controller.create", params, request_id=request_id, timeout_s=timeout)
    made = result["components"]
    took = time.monotonic() - started
    output = session.output
    word = "accepted" if no_wait else "available"
    text = "\n".join(
        f"{output.state(word)} {i[:SHORT_DIGITS]} {type_} in {took:.1f}s" for i in made
    )
    output.value(result, text, made)


def ps(session: Session, *, all_: bool, selector: tuple[str, ...], watch: bool) -> None:
    """List components."""
    wanted = _filter(selector)
    output = session.output
    columns: tuple[Column, ...] = (
        ("ID", lambda c: c["id"][:SHORT_DIGITS]),
        ("NAME", lambda c: c["name"] or "-"),
        ("TYPE", lambda c: c["type"]),
        ("NODE", lambda c: c["node"] or "-"),
        ("STATE", lambda c: output.state(c["state"])),
        ("SINCE", lambda c: texts.age(time.time() - c["since"])),
        ("RESTARTS", lambda c: str(c["restarts"])),
        ("MEMORY", lambda c: texts.size(c.get("memory"))),
        ("REASON", lambda c: c["reason"] or "-"),
        ("GROUPS*", lambda c: ",".join(c["groups"]) or "-"),
        ("ENDPOINTS*", lambda c: ",".join(_endpoints(c)) or "-"),
        ("FULL ID*", lambda c: c["id"]),
    )
    watching.show(
        session,
        lambda: session.call("controller.components", {"filter": wanted, "all": all_})[
            "components"
        ],
        lambda items: output.rows("components", [_timed(c) for c in items], columns, "id"),
        watch,
    )


def _filter(words: tuple[str, ...]) -> dict[str, str]:
    wanted = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in FILTERS or not value:
            raise PlatformError(
                "invalid",
                f"--selector: expected FIELD=VALUE ({', '.join(FILTERS)}), not {word!r}",
            )
        wanted[key] = value
    return wanted


def _timed(component: dict[str, Any]) -> dict[str, Any]:
    """With the time as RFC 3339 text beside the number of the API."""
    return {**component, "since_time": texts.moment(component["since"])}


def _endpoints(component: dict[str, Any]) -> list[str]:
    return [
        f"{name}={e['protocol']}://{e['host']}:{e['port']}"
        for name, e in component["endpoints"].items()
    ]


def show(session: Session, *, target: str, watch: bool) -> None:
    """Describe one component."""
    component = session.component_id(target) if watch else target

    def print_(found: dict[str, Any]) -> None:
        session.output.value(_timed(found), _described(session, found), [found["id"]])

    watching.show(
        session,
        lambda: session.call("controller.component", {"component": component}),
        print_,
        watch,
    )


def _described(session: Session, found: dict[str, Any]) -> str:
    now = time.time()
    since = f"{texts.age(now - found['since'])}  ({texts.moment(found['since'])})"
    lines = [
        ("id", found["id"]),
        ("name", found["name"] or "-"),
        ("type", found["type"]),
        ("state", f"{session.output.state(found['state'])}  for {since}"),
        ("node", found["node"] or "-"),
        ("restart", f"{found.get('restart', '-')}, {found['restarts']} so far"),
        ("reason", found["reason"] or "-"),
        ("groups", ", ".join(found["groups"]) or "-"),
        ("links", ", ".join(i[:SHORT_DIGITS] for i in found.get("links", ())) or "-"),
        ("endpoints", ", ".join(_endpoints(found)) or "-"),
        ("memory", texts.size(found.get("memory"))),
        ("pid", str(found.get("pid") or "-")),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in lines)


def terminate(
    session: Session,
    *,
    target: str,
    inputs: tuple[str, ...],
    timeout: float | None,
    request_id: str | None,
    dry_run: bool,
) -> int:
    """Ask it; exit status 1 when it refuses."""
    from paas.cli.inputs import read

    component = session.component_id(target)
    short = component[:SHORT_DIGITS]
    if dry_run:
        session.output.value({"would": "terminate", "component": component}, f"would ask {short}")
        return Exit.DONE
    answer = session.change(
        "controller.terminate",
        {"component": component, "inputs": read(inputs)},
        request_id=request_id,
        timeout_s=timeout,
    )
    if not answer["accepted"]:
        reason = answer["reason"] or "no reason given"
        raise PlatformError(
            "refused",
            f"refused by {short}: {reason}",
            hint=f"ask again later, or use: paas destroy {short}",
        )
    session.output.value({"component": component, **answer}, f"{short} ends", [component])
    return Exit.DONE


def destroy(
    session: Session,
    *,
    target: str,
    grace: float | None,
    yes: bool,
    dry_run: bool,
    timeout: float | None,
    request_id: str | None,
) -> int:
    """Return when nothing of it is left."""
    found = session.call("controller.component", {"component": target})
    component, short = found["id"], found["id"][:SHORT_DIGITS]
    name = found["name"] or short
    if dry_run:
        text = f"would destroy {short} ({found['type']}, {found['state']})"
        session.output.value({"would": "destroy", "component": component}, text, [component])
        return Exit.DONE
    if not session.confirmed(f"This destroys {found['type']} {short}", name, yes):
        return Exit.FAILED
    params: dict[str, Any] = {"component": component}
    if grace is not None:
        params["grace"] = grace
    started = time.monotonic()
    wait_s = timeout or DESTROY_TIMEOUT_S
    session.change("controller.destroy", params, request_id=request_id, timeout_s=wait_s)
    took = time.monotonic() - started
    value = {"component": component, "state": "destroyed"}
    session.output.value(value, f"{short} {name} destroyed in {took:.1f}s", [component])
    return Exit.DONE


def link(session: Session, *, a: str, b: str, request_id: str | None) -> None:
    _tie(session, "controller.link", "<->", a, b, request_id)


def unlink(session: Session, *, a: str, b: str, request_id: str | None) -> None:
    _tie(session, "controller.unlink", "| |", a, b, request_id)


def _tie(session: Session, method: str, sign: str, a: str, b: str, request_id: str | None) -> None:
    first, second = session.component_id(a), session.component_id(b)
    session.change(method, {"a": first, "b": second}, request_id=request_id)
    text = f"{first[:SHORT_DIGITS]} {sign} {second[:SHORT_DIGITS]}"
    session.output.value({"a": first, "b": second}, text, [first, second])
