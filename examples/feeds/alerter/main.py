"""Sends what the timeline has to tell: by SMTP, and to browsers through the frontends (io).

    timeline ── take_alerts, end_alerts ──> alerter ── SMTP ──> the mail relay (group feeds.smtp)
                                               └── alert {user, items} ──> group feeds.frontends

Any number of alerters: an alert is taken under a lease, and removed when it was sent.  What a relay
refuses for good (5xx) is given up, everything else is tried again later.
"""

from __future__ import annotations

import smtplib
import threading
import time
from typing import Any

import mail
from paas_component import Call, Component, ComponentError

GROUP = "feeds.alerters"
TIMELINES = "group:feeds.timelines"
FRONTENDS = "group:feeds.frontends"
TAKEN_MAX = 100
LEASE_MS = 30_000
LOOK_S = 5.0
SMTP_S = 10.0
STORE_TIMEOUT_S = 10.0

component = Component(workers=2)
due = threading.Event()
counts = {"mails": 0, "mailed": 0, "pushed": 0, "failed": 0}


class Refused(Exception):
    """The relay said no, for good."""


@component.operation("alert", inline=True)
def alert(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """There is something to send."""
    due.set()
    return {}


@component.operation("statistics", inline=True)
def statistics(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return dict(counts)


def work() -> None:
    """Whatever waits, as soon as somebody says so, and now and then anyway."""
    while True:
        due.wait(LOOK_S)
        due.clear()
        try:
            while send_some():
                continue
        except ComponentError as exc:
            component.log("will try again", level="debug", error=exc.message)


def send_some() -> bool:
    """One turn; was there anything?"""
    asked = {"limit": TAKEN_MAX, "lease_ms": LEASE_MS}
    alerts = component.call(TIMELINES, "take_alerts", asked, timeout=STORE_TIMEOUT_S)["alerts"]
    if not alerts:
        return False
    done: list[int] = []
    failed: list[dict[str, Any]] = []
    for group in mail.by_person([a for a in alerts if a["kind"] == "push"]):
        push(group)
        done += [a["id"] for a in group]
    for group in mail.by_person([a for a in alerts if a["kind"] == "mail"]):
        send_mail(group, done, failed)
    ended = {"done": done, "failed": failed}
    component.call(TIMELINES, "end_alerts", ended, timeout=STORE_TIMEOUT_S)
    return True


def push(alerts: list[Any]) -> None:
    """To all browsers of that person, wherever they are connected."""
    fields = ("seq", "title", "link", "source", "source_title")
    items = [{name: a[name] for name in fields} for a in alerts]
    inputs = {"user": alerts[0]["user"], "items": items}
    try:
        component.cast(FRONTENDS, "alert", inputs, selector="all")
        counts["pushed"] += len(items)
    except ComponentError as exc:  # nobody looks at a page: there is nothing to push to
        component.log("nobody to push to", level="debug", error=exc.message)


def send_mail(alerts: list[Any], done: list[int], failed: list[dict[str, Any]]) -> None:
    try:
        if alerts[0]["email"]:
            deliver(alerts)
        done += [a["id"] for a in alerts]
    except (OSError, smtplib.SMTPException, ComponentError, Refused, ValueError) as exc:
        counts["failed"] += 1
        for_good = isinstance(exc, Refused | ValueError)
        component.log("mail not sent", level="warning", for_good=for_good, error=str(exc)[:200])
        failed += [{"id": a["id"], "attempts": a["attempts"], "for_good": for_good} for a in alerts]


def deliver(alerts: list[Any]) -> None:
    """One mail.  Raises Refused when there is no use in another attempt."""
    sender = str(component.configuration.get("sender", "feeds@localhost"))
    message = mail.compose(alerts, sender, time.time())
    host, port = relay()
    try:
        with smtplib.SMTP(host, port, timeout=SMTP_S) as smtp:
            smtp.ehlo_or_helo_if_needed()
            smtp.send_message(message, sender, [str(alerts[0]["email"])])
    except smtplib.SMTPRecipientsRefused as exc:
        code = max((c for c, _ in exc.recipients.values()), default=0)
        if code >= 500:
            raise Refused(str(exc)[:200]) from None
        raise
    except smtplib.SMTPResponseException as exc:
        if exc.smtp_code >= 500:
            raise Refused(str(exc)[:200]) from None
        raise
    counts["mails"] += 1
    counts["mailed"] += len(alerts)


def relay() -> tuple[str, int]:
    """The relay of the configuration (`smtp = "host:port"`), or the component that is one."""
    given = str(component.configuration.get("smtp", ""))
    if given:
        host, _, port = given.rpartition(":")
        return host, int(port)
    for found in component.resolve("smtp")["endpoints"]:
        if found["protocol"] == "smtp":
            return str(found["host"]), int(found["port"])
    raise ComponentError("not-available", "no component is a mail relay")


def main() -> None:
    component.join(GROUP)
    threading.Thread(target=work, daemon=True).start()
    due.set()
    component.run()


if __name__ == "__main__":
    main()
