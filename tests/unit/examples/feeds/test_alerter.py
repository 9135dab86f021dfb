"""Mails about new items."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import SMTP
from typing import Any

import pytest


def alert(**more: Any) -> dict[str, Any]:
    made = {"id": 1, "user": "ada", "email": "ada@example.org", "seq": 5, "title": "Rain"}
    rest = {"source_title": "Weather", "link": "http://w/1", "summary": "It rains.", "attempts": 1}
    return {**made, **rest, **more}


@pytest.fixture(scope="module")
def mail(part: Any) -> Any:
    return part("alerter").mail


def test_a_mail_says_what_and_where(mail: Any) -> None:
    message = mail.compose([alert()], "feeds@localhost", 0.0)
    assert message["To"] == "ada@example.org"
    assert message["Subject"] == "Rain"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "http://w/1" in message.get_content()


def test_strangers_write_no_headers(mail: Any) -> None:
    evil = alert(title="x\r\nBcc: all@example.org\r\n\r\nbody", source_title="\u202ey\nz")
    data = mail.compose([evil], "feeds@localhost", 0.0).as_bytes(policy=SMTP)
    found = message_from_bytes(data, policy=SMTP)
    assert found["Bcc"] is None
    assert found["Subject"] == "x Bcc: all@example.org body"
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))


@pytest.mark.parametrize("title", ["", "ü" * 500, "\x00\x01", "=?utf-8?q?x?=", "." * 2000])
def test_any_title_makes_a_mail(mail: Any, title: str) -> None:
    data = mail.compose([alert(title=title)], "feeds@localhost", 0.0).as_bytes(policy=SMTP)
    assert b"Message-ID: <" in data


def test_alerts_of_one_person_come_together(mail: Any) -> None:
    alerts = [alert(id=n, seq=n, user="ada" if n % 2 else "bob") for n in range(50)]
    groups = mail.by_person(alerts)
    assert sorted(len(g) for g in groups) == [5, 5, 20, 20]
    assert all(len({a["user"] for a in g}) == 1 for g in groups)
    assert mail.subject(groups[0]) == "20 new: Weather"


def test_the_same_alerts_are_the_same_mail(mail: Any) -> None:
    one = mail.message_id([alert(seq=1), alert(seq=2)], "feeds@example.org")
    assert one == mail.message_id([alert(seq=2), alert(seq=1)], "feeds@example.org")
    assert one != mail.message_id([alert(seq=1)], "feeds@example.org")
    assert one.endswith("@example.org>")
