"""`paas api METHOD [JSON]`: any call of the API, as it is (io)."""

from __future__ import annotations

import sys

from paas.cli import inputs
from paas.cli.session import Session


def api(
    session: Session, *, method: str, params: str | None, events: int, timeout: float | None
) -> None:
    """Print the result as JSON; then, with --events, so many notifications, one a line."""
    text = sys.stdin.read() if params == "-" else (params or "{}")
    body = inputs.read_object(text, "params")
    # Sent as it is given: an own trace, deadline or request id of the caller stays.
    result = session.connection().call(method, body, timeout_s=timeout, changes=True)
    session.output.value(result)
    session.output.stdout.flush()
    if events:
        for number, event in enumerate(session.connection().notifications(timeout), start=1):
            session.output.record(event, session.output.json(event))
            if number == events:
                return
