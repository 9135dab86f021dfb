"""`paas mailbox`: durable mailboxes of groups, their settings, contents and dead letters (io)."""

from __future__ import annotations

import json
import time
from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.cli import texts, watching
from paas.cli.output import Column
from paas.cli.session import Session


def _name(group: str) -> str:
    return group.removeprefix("group:")


def list_(session: Session, *, watch: bool) -> None:
    columns: tuple[Column, ...] = (
        ("GROUP", lambda g: g["group"]),
        ("MEMBERS", lambda g: str(g["members"])),
        ("WAITING", lambda g: str(g["mailbox"]["waiting"])),
        ("SIZE", lambda g: texts.size(g["mailbox"]["waiting_bytes"])),
        ("OLDEST", lambda g: _age(g["mailbox"]["oldest"])),
        ("DEAD", lambda g: str(g["mailbox"]["dead"])),
        ("DONE", lambda g: str(g["mailbox"]["acknowledged"])),
        ("PRIMARY*", lambda g: g["mailbox"]["primary"] or "-"),
    )
    watching.show(
        session,
        lambda: session.call("hub.group")["groups"],
        lambda items: session.output.rows("mailboxes", items, columns, "group"),
        watch,
    )


def _age(since_s: float) -> str:
    return texts.age(time.time() - since_s) if since_s else "-"


def _mailbox(session: Session, group: str) -> dict[str, Any]:
    found: dict[str, Any] = session.call("hub.group", {"group": _name(group)})["groups"][0]
    if found["mailbox"] is None:
        raise PlatformError(
            "no-such-target",
            f"group {_name(group)!r} has no durable mailbox",
            hint=f"give it one: paas mailbox configure {_name(group)}",
        )
    return found


def show(session: Session, *, group: str) -> None:
    found = _mailbox(session, group)
    box = found["mailbox"]
    order = "one after the other for each sender" if box["ordered"] else "in any order"
    lines = [
        ("group", found["group"]),
        ("members", str(found["members"])),
        ("primary", box["primary"] or "-"),
        ("waiting", f"{box['waiting']} of {box['messages_max']}"),
        ("size", f"{texts.size(box['waiting_bytes'])} of {texts.size(box['bytes_max'])}"),
        ("oldest", _age(box["oldest"])),
        ("delivery", f"{order}, {box['in_flight']} at the same time"),
        ("attempts", f"{box['attempts']}, {box['backoff_s']:g} s before the second"),
        ("answer", f"within {box['timeout_s']:g} s"),
        ("accepted", str(box["accepted"])),
        ("done", str(box["acknowledged"])),
        ("dead", f"{box['dead']} ({box['died']} ever)"),
        ("discarded", str(box["discarded"])),
        ("dropped", str(box["dropped"])),
    ]
    text = "\n".join(f"{name:<12} {value}" for name, value in lines)
    session.output.value(found, text, [found["group"]])


def dead(session: Session, *, group: str, limit: int) -> None:
    params = {"group": _name(group), "limit": limit}
    columns: tuple[Column, ...] = (
        ("MESSAGE", lambda m: m["message"]),
        ("FROM", lambda m: m["from"][:8] or "operator"),
        ("OPERATION", lambda m: m["operation"]),
        ("TRIES", lambda m: str(m["attempts"])),
        ("DIED", lambda m: _age(m["died"])),
        ("REASON", lambda m: m["reason"]),
        ("INPUTS*", lambda m: json.dumps(m["inputs"], ensure_ascii=False, default=repr)),
    )
    found = session.call("hub.dead_letters", params)
    session.output.rows("letters", found["letters"], columns, "message")


def redeliver(
    session: Session,
    *,
    group: str,
    messages: tuple[str, ...],
    all_: bool,
    request_id: str | None,
    dry_run: bool,
) -> None:
    chosen = _chosen(group, messages, all_)
    if dry_run:
        _would(session, "redeliver", chosen)
        return
    result = session.change("hub.redeliver", chosen, request_id=request_id)
    text = f"{result['redelivered']} messages wait again, {result['dead']} are dead"
    session.output.value(result, text, [str(result["redelivered"])])


def discard(
    session: Session,
    *,
    group: str,
    messages: tuple[str, ...],
    all_: bool,
    yes: bool,
    request_id: str | None,
    dry_run: bool,
) -> int:
    chosen = _chosen(group, messages, all_)
    if dry_run:
        _would(session, "discard", chosen)
        return Exit.DONE
    if not session.confirmed("This forgets dead letters for good", _name(group), yes):
        return Exit.FAILED
    result = session.change("hub.discard", chosen, request_id=request_id)
    text = f"{result['discarded']} messages are forgotten, {result['dead']} are dead"
    session.output.value(result, text, [str(result["discarded"])])
    return Exit.DONE


def _chosen(group: str, messages: tuple[str, ...], everything: bool) -> dict[str, Any]:
    if everything == bool(messages):
        raise PlatformError(
            "invalid",
            "name dead letters by their ids, or all of them by --all",
            hint=f"list them: paas mailbox dead {_name(group)}",
            field="messages",
        )
    return {"group": _name(group), "messages": list(messages), "all": everything}


def _would(session: Session, what: str, chosen: dict[str, Any]) -> None:
    """A dry run: how many dead letters it would be about."""
    found = session.call("hub.dead_letters", {"group": chosen["group"]})
    ids = [letter["message"] for letter in found["letters"]]
    known = ids if chosen["all"] else [one for one in chosen["messages"] if one in ids]
    count = found["dead"] if chosen["all"] else len(known)
    result = {"would": what, "group": chosen["group"], "count": count}
    session.output.value(result, f"would {what} {count} dead letters", known)


def configure(
    session: Session,
    *,
    group: str,
    none: bool,
    attempts: int | None,
    backoff: float | None,
    patience: float | None,
    messages: int | None,
    bytes_: int | None,
    in_flight: int | None,
    unordered: bool,
    request_id: str | None,
) -> None:
    """What is not given has the platform's default."""
    params: dict[str, Any] = {"group": _name(group), "mailbox": "none" if none else "durable"}
    given = {
        "attempts": attempts,
        "backoff_s": backoff,
        "timeout_s": patience,
        "messages_max": messages,
        "bytes_max": bytes_,
        "in_flight": in_flight,
    }
    if not none:
        params["ordered"] = not unordered
        params |= {field: value for field, value in given.items() if value is not None}
    result = session.change("hub.configure_group", params, request_id=request_id)
    word = "no mailbox" if none else "a durable mailbox"
    session.output.value(result, f"group {_name(group)} has {word}", [_name(group)])
