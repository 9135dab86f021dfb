"""Rows of the table of commands about durable mailboxes (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import (
    DRY_RUN,
    LOOK,
    OPERATE,
    REQUEST_ID,
    WATCH,
    YES,
    Argument,
    Command,
    Option,
)

_GROUP = Argument("group", "a group with a mailbox", names="group")
_IDS = Argument("messages", "ids of dead letters", required=False, many=True)
_ALL = Option(("--all",), "all dead letters of the group", kind="flag", default=False)

MAILBOX_COMMANDS: tuple[Command, ...] = (
    Command(
        ("mailbox", "list"),
        LOOK,
        "list groups with a durable mailbox, and what waits in them",
        "mailbox:list_",
        (
            ("mailbox list", "all, with messages that wait and dead letters"),
            ("mailbox list --watch", "again whenever something changes"),
        ),
        options=(WATCH,),
    ),
    Command(
        ("mailbox", "show"),
        LOOK,
        "settings, contents and counts of a mailbox",
        "mailbox:show",
        (
            ("mailbox show orders", "of the group `orders`"),
            ("mailbox show orders -o json", "as JSON"),
        ),
        arguments=(_GROUP,),
    ),
    Command(
        ("mailbox", "dead"),
        LOOK,
        "list dead letters: messages that no member has done, and why",
        "mailbox:dead",
        (
            ("mailbox dead orders", "the oldest first"),
            ("mailbox dead orders -o json", "with their inputs"),
        ),
        arguments=(_GROUP,),
        options=(Option(("--limit",), "at most so many", kind="int", default=100, metavar="N"),),
    ),
    Command(
        ("mailbox", "redeliver"),
        OPERATE,
        "let dead letters wait again, as if they had just been cast",
        "mailbox:redeliver",
        (
            ("mailbox redeliver orders 2f1.0", "one of them"),
            ("mailbox redeliver orders --all", "all, when the cause is cured"),
        ),
        arguments=(_GROUP, _IDS),
        options=(_ALL, REQUEST_ID, DRY_RUN),
    ),
    Command(
        ("mailbox", "discard"),
        OPERATE,
        "forget dead letters",
        "mailbox:discard",
        (
            ("mailbox discard orders 2f1.0", "one of them"),
            ("mailbox discard orders --all --yes", "all, without asking"),
        ),
        arguments=(_GROUP, _IDS),
        options=(_ALL, YES, REQUEST_ID, DRY_RUN),
    ),
    Command(
        ("mailbox", "configure"),
        OPERATE,
        "give a group a durable mailbox, change its settings, or take it away",
        "mailbox:configure",
        (
            ("mailbox configure orders", "with the default settings"),
            ("mailbox configure orders --attempts 3 --backoff 10s", "what is not given is default"),
            ("mailbox configure orders --none", "take an empty one away"),
        ),
        arguments=(Argument("group", "a group", names="group"),),
        options=(
            Option(("--none",), "no mailbox any more", kind="flag", default=False),
            Option(("--attempts",), "before a message is dead", kind="int", metavar="N"),
            Option(("--backoff",), "before the second attempt", kind="duration", metavar="TIME"),
            Option(("--patience",), "for the answer to each", kind="duration", metavar="TIME"),
            Option(("--messages",), "that may wait", kind="int", metavar="N"),
            Option(("--bytes",), "that may wait", kind="int", metavar="N"),
            Option(("--in-flight",), "at the same time", kind="int", metavar="N"),
            Option(("--unordered",), "no order of a sender", kind="flag", default=False),
            REQUEST_ID,
        ),
    ),
)
