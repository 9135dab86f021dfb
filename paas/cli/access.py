"""`paas token`: what programs outside show to use the cluster's API (io)."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from paas.base.errors import PlatformError, invalid
from paas.cli import place, texts
from paas.cli.output import Column
from paas.cli.session import Session

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def create(
    session: Session, *, role: str, expires: float | None, note: str, save_authority: str | None
) -> None:
    """Print a new token, once; with --save-authority, keep what its user must trust in a file."""
    params: dict[str, object] = {"role": role, "note": note}
    if expires is not None:
        params["ttl"] = expires
    found = session.change("access.create_token", params)
    if save_authority:
        place.write_whole(Path(save_authority), found["authority"], 0o644)
    session.output.value(found, found["token"], [found["token"]])
    left = texts.age(max(0.0, found["expires"] - time.time()))
    session.output.note(
        f"{found['id']}: role {role}, for {left}, at {found['url'] or 'no address'}"
    )


def tokens(session: Session) -> None:
    """The tokens that are good."""
    columns: tuple[Column, ...] = (
        ("ID", lambda t: t["id"]),
        ("ROLE", lambda t: t["role"]),
        ("EXPIRES IN", lambda t: texts.age(max(0.0, t["expires"] - time.time()))),
        ("NOTE", lambda t: t["note"] or "-"),
    )
    session.output.rows("tokens", session.call("access.list_tokens")["tokens"], columns, "id")


def revoke(session: Session, *, token: str) -> None:
    """A token is good no more; what it has opened ends."""
    if token.startswith("paasat1-"):
        token = token.split("-")[1]
    found = session.change("access.revoke_token", {"id": token})
    session.output.value(found, f"token {found['id']} is good no more", [found["id"]])


def certificate(session: Session, *, name: str, directory: str, expires: float | None) -> None:
    """Make a key here and have it certified: NAME.key, NAME.crt and authority.crt."""
    if not _NAME.fullmatch(name):
        raise invalid("name", "expected up to 32 lower-case letters, digits and inner hyphens")
    from paas.identity import csr, keys
    from paas.identity.names import OPERATOR, OPERATOR_ID_PREFIX, AgentName

    status = session.call("cluster.status")
    node = str(status["log"]["node"])
    key = keys.make_key()
    subject = AgentName(status["cluster"], node, OPERATOR, OPERATOR_ID_PREFIX + name)
    params: dict[str, object] = {"request": csr.make(subject, key).decode()}
    if expires is not None:
        params["ttl"] = expires
    found = session.change("access.certify", params)
    folder = Path(directory)
    try:
        os.makedirs(folder, exist_ok=True)
        place.write_whole(folder / f"{name}.key", keys.key_pem(key).decode(), 0o600)
        place.write_whole(folder / f"{name}.crt", found["certificate"], 0o644)
        place.write_whole(folder / "authority.crt", found["authority"], 0o644)
    except OSError as exc:
        raise PlatformError("failed", f"{directory}: {exc.strerror or exc}") from None
    shown = {"name": name, "directory": directory, "url": found["url"], "host": found["host"]}
    session.output.value(shown, f"{folder / name}.crt and .key, for {found['url']}", [name])
