"""Commands about stored bundles, publishers and one's own key (io)."""

from __future__ import annotations

import time
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.cli import place, texts, watching
from paas.cli.output import Column
from paas.cli.session import Session

KEY_NAME = "publisher.key"


def key_file() -> Path:
    """Where the developer's signing key is."""
    return place.data_home() / "keys" / KEY_NAME


def bundles(session: Session, *, watch: bool) -> None:
    columns: tuple[Column, ...] = (
        ("DIGEST", lambda b: b["digest"][: len("sha256:") + 12]),
        ("SIZE", lambda b: texts.size(b["size"])),
        ("PUBLISHER", lambda b: b["publisher"]),
        ("TYPES", lambda b: ", ".join(b["types"]) or "-"),
    )
    watching.show(
        session,
        lambda: session.call("bundle.list")["bundles"],
        lambda items: session.output.rows("bundles", items, columns, "digest"),
        watch,
    )


def remove(
    session: Session, *, digest: str, yes: bool, dry_run: bool, request_id: str | None
) -> int:
    if dry_run:
        value = {"would": "remove", "digest": digest}
        session.output.value(value, f"would forget {digest}", [digest])
        return Exit.DONE
    if not session.confirmed("This forgets a bundle", digest, yes):
        return Exit.FAILED
    session.change("bundle.remove", {"digest": digest}, request_id=request_id)
    session.output.value({"digest": digest, "removed": True}, f"{digest} is forgotten", [digest])
    return Exit.DONE


def trust(session: Session, *, file: str, name: str, request_id: str | None) -> None:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise PlatformError("invalid", f"{file}: {exc}") from None
    params = {"public_key": text, "name": name}
    found = session.change("bundle.trust", params, request_id=request_id)
    text = f"bundles signed with key {found['key_id']} may run here"
    session.output.value(found, text, [found["key_id"]])


def keys(session: Session) -> None:
    """The key is made when it is first needed."""
    from paas.bundle.keys import load_or_generate

    key = load_or_generate(key_file())
    value = {
        "key_id": key.public.key_id,
        "public_key": key.public.line(),
        "file": str(key_file()),
        "time": texts.moment(time.time()),
    }
    text = f"key {key.public.key_id}\npublic {key.public.line()}\nfile {key_file()}"
    session.output.value(value, text, [key.public.line()])
