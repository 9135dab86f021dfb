"""`--watch`: fetch again and show when something changed, until Ctrl-C (io).

Polling is enough for eyes: it needs nothing of the platform and misses a change for one period at
most.  On a terminal the screen is replaced; elsewhere each state is printed after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.session import Session

PERIOD_S = 1.0
_CLEAR = "\x1b[H\x1b[2J"


def show(
    session: Session, fetch: Callable[[], Any], print_: Callable[[Any], None], watch: bool
) -> None:
    """Print what `fetch` yields; with `watch`, again whenever it is another."""
    value = fetch()
    _print(session, value, print_, watch)
    while watch:
        time.sleep(PERIOD_S)
        try:
            fresh = fetch()
        except PlatformError as exc:
            if exc.code != "unavailable":
                raise
            session.close()
            continue
        if fresh != value:
            value = fresh
            _print(session, value, print_, watch)


def _print(session: Session, value: Any, print_: Callable[[Any], None], watch: bool) -> None:
    output = session.output
    if watch and output.stdout.isatty() and not output.for_programs:
        output.stdout.write(_CLEAR)
    print_(value)
    output.stdout.flush()
