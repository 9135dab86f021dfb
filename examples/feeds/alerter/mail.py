"""One message for all alerts that wait for somebody.  Pure.

Everything that comes from a feed is text of strangers: control characters go, lines of headers stay
lines of headers (EmailMessage refuses others), and the body is plain text.  The same alerts give
the same Message-ID, so a mail that is sent again after a crash is seen as the same one (RFC 5322
§3.6.4); RFC 3834 tells other programs not to answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

ITEMS_A_MAIL = 20
SUBJECT_CHARS_MAX = 120

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

Alert = Mapping[str, Any]


def line(text: str) -> str:
    """Text of a stranger as one line."""
    return " ".join(_CONTROL.sub(" ", text).split())


def by_person(alerts: Sequence[Alert]) -> list[list[Alert]]:
    """Alerts of one person together, ITEMS_A_MAIL at most."""
    people: dict[str, list[Alert]] = {}
    for alert in alerts:
        people.setdefault(str(alert["user"]), []).append(alert)
    return [
        found[start : start + ITEMS_A_MAIL]
        for found in people.values()
        for start in range(0, len(found), ITEMS_A_MAIL)
    ]


def compose(alerts: Sequence[Alert], sender: str, now_s: float) -> EmailMessage:
    """The mail for alerts of one person; ValueError when the address is none."""
    first = alerts[0]
    message = EmailMessage()
    message["From"] = sender
    message["To"] = line(str(first["email"]))
    message["Subject"] = subject(alerts)
    message["Date"] = formatdate(now_s)
    message["Message-ID"] = message_id(alerts, sender)
    message["Auto-Submitted"] = "auto-generated"
    message["Precedence"] = "bulk"
    message.set_content(text(alerts), cte="quoted-printable")
    return message


def subject(alerts: Sequence[Alert]) -> str:
    if len(alerts) > 1:
        sources = {line(str(a["source_title"])) or "a source" for a in alerts}
        where = next(iter(sources)) if len(sources) == 1 else f"{len(sources)} sources"
        return f"{len(alerts)} new: {where}"[:SUBJECT_CHARS_MAX]
    return line(str(alerts[0]["title"]))[:SUBJECT_CHARS_MAX] or "A new item"


def message_id(alerts: Sequence[Alert], sender: str) -> str:
    said = ",".join(sorted(f"{a['user']}:{a['seq']}" for a in alerts))
    domain = re.sub(r"[^A-Za-z0-9.-]", "", sender.rpartition("@")[2]) or "feeds"
    return f"<{hashlib.sha256(said.encode()).hexdigest()[:32]}@{domain}>"


def text(alerts: Sequence[Alert]) -> str:
    parts = []
    for alert in alerts:
        lines = [line(str(alert["title"])), f"  {line(str(alert['source_title']))}"]
        if alert["link"]:
            lines.append(f"  {line(str(alert['link']))}")
        if alert["summary"]:
            lines.append(f"  {line(str(alert['summary']))[:300]}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
