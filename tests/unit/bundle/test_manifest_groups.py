"""`[groups.<name>]`: what a manifest declares about the mailboxes of groups."""

from __future__ import annotations

import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.bundle import limits
from paas.bundle.manifest import Group, from_plain, parse
from paas.hub.mailbox import settings_of
from paas.hub.mailbox_commands import Settings

HEAD = '[component]\nname = "a"\nversion = "1"\ncommand = ["a"]\n'


def groups(text: str) -> dict[str, Group]:
    return parse((HEAD + text).encode()).groups


def test_a_group_needs_only_to_say_whether_it_has_a_mailbox() -> None:
    found = groups('[groups.orders]\nmailbox = "durable"\n[groups."a/b"]\nmailbox = "none"\n')
    assert found == {"a/b": Group(mailbox="none"), "orders": Group(mailbox="durable")}


def test_units_are_understood_and_the_canonical_form_reads_as_itself() -> None:
    text = '[groups.g]\nmailbox = "durable"\nbackoff = "2m"\nbytes_max = "1M"\nordered = false\n'
    manifest = parse((HEAD + text).encode())
    expected = Group(mailbox="durable", backoff=120.0, bytes_max=1 << 20, ordered=False)
    assert manifest.groups == {"g": expected}
    assert from_plain(manifest.to_plain()) == manifest


def test_the_defaults_are_those_of_the_hub() -> None:
    plain = msgspec.to_builtins(Group(mailbox="durable"))
    assert settings_of(plain) == Settings()
    assert settings_of({**plain, "mailbox": "none"}) is None


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('mailbox = "maybe"', "mailbox"),
        ("attempts = 3", "mailbox"),
        ('mailbox = "durable"\nattempts = 0', "attempts"),
        (f'mailbox = "durable"\nattempts = {limits.DURABLE_ATTEMPTS_MAX + 1}', "attempts"),
        ('mailbox = "durable"\nbackoff = "11m"', "backoff"),
        ('mailbox = "durable"\ntimeout = "6m"', "timeout"),
        ('mailbox = "durable"\nbytes_max = "17M"', "bytes_max"),
        ('mailbox = "durable"\nbytes_max = "1K"', "bytes_max"),
        ('mailbox = "durable"\nordered = 1', "ordered"),
        ('mailbox = "durable"\nin_flight = 257', "in_flight"),
        ('mailbox = "durable"\nretries = 3', "retries"),
    ],
)
def test_what_is_wrong_is_named(line: str, field: str) -> None:
    with pytest.raises(PlatformError) as caught:
        groups(f"[groups.g]\n{line}\n")
    assert caught.value.code == "invalid"
    assert caught.value.data["field"] == f"groups.g.{field}"


def test_a_group_has_the_name_of_a_group() -> None:
    with pytest.raises(PlatformError, match="the name of a group"):
        groups('[groups."no:colon"]\nmailbox = "none"\n')
