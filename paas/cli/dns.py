"""`paas dns`: names that were published, what they mean, publishing and withdrawing (io)."""

from __future__ import annotations

from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.cli import dns_query, texts
from paas.cli.output import Column
from paas.cli.session import Session


def list_(session: Session, *, all_: bool, below: str, limit: int) -> None:
    found = session.call("dns.list", {"all": all_, "below": below, "limit": limit})
    columns: tuple[Column, ...] = (
        ("NAME", lambda r: r["name"]),
        ("KIND", lambda r: r["kind"]),
        ("DATA", lambda r: r["data"]),
        ("TTL", lambda r: f"{r['ttl']}s"),
        ("BY", lambda r: r["owner"][:8] or ("-" if all_ else "operator")),
    )
    session.output.rows("records", found["records"], columns, "name")
    if found["more"]:
        session.output.note(f"there are more than {limit}: --limit N, or --below NAME")


def status(session: Session) -> None:
    found = session.call("dns.status")
    lines = [
        f"zone     {found['zone']}, serial {found['serial']}",
        f"answers  {found['address'] or 'containers only'}",
        *(f"  {name:<10} {count}" for name, count in found["figures"].items()),
        *(f"secondary {name}: {what}" for name, what in found["secondaries"].items()),
        *(f"trust    {key}" for key in found["keys"]),
    ]
    session.output.value(found, "\n".join(lines), [found["address"]])


def query(session: Session, *, name: str, kind: str | None, server: str, tcp: bool) -> int:
    wanted = (kind or "A").upper()
    if not server or not name.endswith("."):
        told = session.call("dns.status")
        server = server or _own(told)
        name = _whole(name, told["zone"])
    answer = dns_query.ask(dns_query.server_of(server), name, wanted, tcp=tcp)
    columns: tuple[Column, ...] = (
        ("NAME", lambda r: r["name"]),
        ("TTL", lambda r: f"{r['ttl']}s"),
        ("KIND", lambda r: r["kind"]),
        ("DATA", lambda r: r["data"]),
    )
    if answer.code != "NOERROR" or not answer.records:
        what = "has no such record" if answer.code == "NOERROR" else f"is answered {answer.code}"
        raise PlatformError(
            "no-such-target",
            f"{name} {wanted} {what}",
            hint=f"look at what there is: paas dns list --all --below {name.rstrip('.')}",
            answer=answer.code,
        )
    session.output.rows("records", answer.records, columns, "data")
    return Exit.DONE


def _own(told: dict[str, Any]) -> str:
    if not told["address"]:
        raise PlatformError(
            "not-available",
            "this node answers for names to its containers only",
            hint="name another server: --server HOST:PORT",
        )
    return str(told["address"])


def _whole(name: str, zone: str) -> str:
    if name.endswith("."):
        return name
    bare = name.lower()
    if bare == "@":
        return f"{zone}."
    return f"{name}." if bare == zone or bare.endswith(f".{zone}") else f"{name}.{zone}."


def publish(
    session: Session,
    *,
    name: str,
    kind: str,
    data: tuple[str, ...],
    ttl: float,
    request_id: str | None,
) -> None:
    params = {"name": name, "kind": kind, "data": " ".join(data), "ttl": int(ttl)}
    found = session.change("dns.publish", params, request_id=request_id)
    text = f"{found['name']} {kind.upper()} {' '.join(data)}, for {texts.age(ttl)}"
    session.output.value(found, text, [found["name"]])


def withdraw(
    session: Session,
    *,
    name: str,
    kind: str | None,
    data: tuple[str, ...],
    yes: bool,
    request_id: str | None,
    dry_run: bool,
) -> int:
    params = {"name": name, "kind": kind or "", "data": " ".join(data)}
    what = " ".join(word for word in (name, kind or "", " ".join(data)) if word)
    if dry_run:
        session.output.value({"would": "withdraw", **params}, f"would withdraw {what}", [name])
        return Exit.DONE
    if not session.confirmed("This withdraws published records", name, yes):
        return Exit.FAILED
    found = session.change("dns.withdraw", params, request_id=request_id)
    session.output.value(found, f"withdrew {found['count']} of {what}", [name])
    return Exit.DONE
