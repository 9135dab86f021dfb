"""paas mailbox: list, show, dead, redeliver, discard, configure."""

from __future__ import annotations

import pytest

import paas.hub.mailbox_messages  # noqa: F401 (declares what the fake hub checks)
from paas.base.errors import Exit, PlatformError

BOX = {
    "attempts": 5,
    "backoff_s": 1.0,
    "messages_max": 10_000,
    "bytes_max": 4 << 20,
    "ordered": True,
    "timeout_s": 30.0,
    "in_flight": 16,
    "primary": "n2",
    "waiting": 3,
    "waiting_bytes": 2_000,
    "oldest": 1_000.0,
    "dead": 2,
    "dead_bytes": 400,
    "accepted": 20,
    "acknowledged": 14,
    "died": 3,
    "discarded": 1,
    "dropped": 0,
}


def letter(identity: str) -> dict[str, object]:
    return {
        "number": 7,
        "message": identity,
        "from": "",
        "operation": "order",
        "object": "",
        "inputs": {"item": "tea"},
        "attachments": [],
        "attempts": 3,
        "reason": "failed: no tea",
        "component": "ab" * 20,
        "accepted": 1_000.0,
        "died": 1_001.0,
    }


@pytest.fixture
def mailboxes(hub):
    """The fake hub with a mailbox of the group `orders`, and two dead letters in it."""
    letters = [letter("2f1.0"), letter("2f2.0")]

    def group(params):
        if params.get("group", "orders") == "plain":
            return {"groups": [{"group": "plain", "members": 1, "mailbox": None}]}
        return {"groups": [{"group": "orders", "members": 2, "mailbox": BOX}]}

    def take(params):
        chosen = [m for m in letters if params["all"] or m["message"] in params["messages"]]
        for one in chosen:
            letters.remove(one)
        return len(chosen)

    hub.hub_group = group
    hub.hub_dead_letters = lambda _: {"letters": letters, "dead": len(letters)}
    hub.hub_redeliver = lambda params: {"redelivered": take(params), "dead": len(letters)}
    hub.hub_discard = lambda params: {"discarded": take(params), "dead": len(letters)}
    hub.hub_configure_group = lambda params: {
        "group": params["group"],
        "members": 0,
        "mailbox": None if params["mailbox"] == "none" else BOX,
    }
    return hub


def test_list_shows_what_waits_and_what_is_dead(paas, mailboxes):
    lines = paas("mailbox", "list").out.splitlines()
    assert lines[1].split()[:4] == ["orders", "2", "3", "2.0K"]
    assert paas("mailbox", "list", "-o", "json").json()["mailboxes"][0]["mailbox"]["dead"] == 2


def test_show_tells_settings_and_counts(paas, mailboxes):
    said = paas("mailbox", "show", "group:orders").out
    assert "3 of 10000" in said
    assert "2 (3 ever)" in said
    assert mailboxes.sent("hub.group")[0]["group"] == "orders"


def test_a_group_without_a_mailbox_says_so(paas, mailboxes):
    done = paas("mailbox", "show", "plain")
    assert done.status == Exit.NOT_FOUND
    assert "paas mailbox configure plain" in done.err


def test_dead_lists_reasons(paas, mailboxes):
    done = paas("mailbox", "dead", "orders", "--limit", "5")
    assert "failed: no tea" in done.out
    assert mailboxes.sent("hub.dead_letters")[0]["limit"] == 5
    assert paas("mailbox", "dead", "orders", "-o", "name").out.split() == ["2f1.0", "2f2.0"]


def test_redeliver_takes_ids_or_all(paas, mailboxes):
    assert paas("mailbox", "redeliver", "orders", "2f1.0").out.startswith("1 messages wait again")
    done = paas("mailbox", "redeliver", "orders", "--all", "-o", "json").json()
    assert done == {"redelivered": 1, "dead": 0}
    for words in ((), ("2f1.0", "--all")):
        assert paas("mailbox", "redeliver", "orders", *words).status == Exit.USAGE


def test_discard_forgets_and_a_dry_run_does_not(paas, mailboxes):
    said = paas("mailbox", "discard", "orders", "2f1.0", "unknown", "--dry-run").out
    assert "would discard 1 dead letters" in said
    assert "would redeliver 2" in paas("mailbox", "redeliver", "orders", "--all", "--dry-run").out
    assert mailboxes.sent("hub.discard") == []
    assert paas("mailbox", "discard", "orders", "--all", "--yes").out.startswith("2 messages")


def test_configure_sends_what_is_given(paas, mailboxes):
    words = ("--attempts", "3", "--backoff", "10s", "--patience", "2m", "--bytes", "200000")
    assert "a durable mailbox" in paas("mailbox", "configure", "orders", *words).out
    sent = mailboxes.sent("hub.configure_group")[0]
    assert {k: sent[k] for k in ("attempts", "backoff_s", "timeout_s", "bytes_max")} == {
        "attempts": 3,
        "backoff_s": 10.0,
        "timeout_s": 120.0,
        "bytes_max": 200_000,
    }
    assert (sent["mailbox"], sent["ordered"]) == ("durable", True)
    assert "no mailbox" in paas("mailbox", "configure", "orders", "--none").out
    assert mailboxes.sent("hub.configure_group")[1]["mailbox"] == "none"


def test_errors_of_the_hub_are_told(paas, mailboxes):
    def refuse(_params):
        raise PlatformError("conflict", "3 messages wait")

    mailboxes.hub_configure_group = refuse
    done = paas("mailbox", "configure", "orders", "--none")
    assert done.status == Exit.CONFLICT
    assert "3 messages wait" in done.err
