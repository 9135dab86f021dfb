"""`paas demo feeds`: the demonstration, on a cluster that runs (io).

Pushes the component types of examples/feeds-mini, creates one component of each, waits until the
index has items, and prints an answer of the frontend with what to try next.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.session import Session

EXAMPLE = "feeds-mini"
ORDER = ("source", "timeline", "indexer", "fetcher", "frontend")
"""Who is asked is created before who asks; nothing depends on it, it is only quicker."""

ITEMS_TIMEOUT_S = 60.0
POLL_S = 0.2
SHOWN = 5

NEXT = """\
try next:
  paas ps                                        what runs
  paas call feeds-frontend latest '{"limit": 5}'   ask again
  paas call feeds-frontend search query=atom      look for a word
  paas call feeds-frontend feeds                  what is followed, and how often
  paas logs -f feeds-fetcher                     what the fetcher does
  paas destroy feeds-indexer --yes               take one away; paas ps
  paas down                                      end it all"""


def demo(session: Session, *, name: str) -> None:
    """Print the answer as one JSON value; all else goes to standard error."""
    if name != "feeds":
        raise PlatformError(
            "invalid", f"there is no demonstration {name!r}", hint="there is: feeds"
        )
    folder = example_directory()
    started = time.monotonic()
    for part in ORDER:
        _step(session, started, f"push feeds-{part}", partial(_push, session, folder / part))
    for part in ORDER:
        _step(session, started, f"create feeds-{part}", partial(_create, session, f"feeds-{part}"))
    answer = _step(session, started, "feeds read and indexed", partial(_latest, session))
    session.output.note("")
    session.output.note(f"paas call feeds-frontend latest '{{\"limit\": {SHOWN}}}'")
    session.output.value(answer, session.output.json(answer, pretty=True))
    session.output.stdout.flush()
    session.output.note("")
    session.output.note(NEXT)


def example_directory() -> Path:
    """Where the example's sources are: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples" / EXAMPLE, package.parent / "examples" / EXAMPLE):
        if folder.is_dir():
            return folder
    raise PlatformError(
        "unsupported",
        f"the sources of examples/{EXAMPLE} are not installed here",
        hint="run it from a checkout of the project",
    )


def _step(session: Session, started: float, text: str, work: Any) -> Any:
    result = work()
    session.output.note(f"  {time.monotonic() - started:5.1f} s  {text}")
    return result


def _push(session: Session, source: Path) -> None:
    import tempfile

    from paas.bundle.keys import load_or_generate
    from paas.cli.bundle import key_file
    from paas.cli.push import build_source, register, upload

    with tempfile.TemporaryDirectory(prefix="paas-demo-") as folder:
        built = build_source(source, Path(folder))
        upload(session, built, load_or_generate(key_file()))
        register(session, built, None)


def _create(session: Session, name: str) -> None:
    """One component called as its type; a second run of the demonstration finds it there."""
    try:
        session.change("controller.create", {"type": name, "name": name}, timeout_s=60.0)
    except PlatformError as exc:
        if exc.code != "conflict":
            raise
        session.call("hub.await", {"name": name}, timeout_s=60.0)


def _latest(session: Session) -> Any:
    """Ask until there are items; the last error when there never are."""
    params = {"target": "feeds-frontend", "operation": "latest", "inputs": {"limit": SHOWN}}
    until = time.monotonic() + ITEMS_TIMEOUT_S
    while True:
        error = PlatformError(
            "timeout", "no feed has been read yet", hint="see: paas logs feeds-fetcher"
        )
        try:
            answer = session.call("hub.call", params)["outputs"]
            if len(answer["items"]) >= SHOWN:
                return answer
        except PlatformError as exc:
            if not exc.kind.retryable and exc.code != "failed":
                raise
            error = exc
        if time.monotonic() > until:
            raise error
        time.sleep(POLL_S)
