"""Join tokens through the real machine: one use, one name, expiry, bounds, snapshots."""

from __future__ import annotations

import contextlib

import pytest

from paas.base.errors import PlatformError
from paas.certificates.join_state import (
    CreateJoinToken,
    JoinTokenState,
    JoinTokenUsed,
    RevokeJoinToken,
    UseJoinToken,
    new_token,
)
from paas.certificates.limits import (
    JOIN_TOKEN_KEPT_S,
    JOIN_TOKEN_LIFE_S,
    JOIN_TOKEN_LIFE_S_MAX,
    JOIN_TOKENS_MAX,
)
from paas.identity import join_tokens
from paas.identity.limits import CLOCK_SKEW_S

KEY, OTHER_KEY = "a" * 64, "b" * 64


def use(text: str, *, key: str = KEY, node: str = "n2", **more) -> UseJoinToken:
    token = join_tokens.parse(text)
    assert token is not None
    return UseJoinToken(
        **{
            "token_id": token.id,
            "digest": token.digest(),
            "node": node,
            "key": key,
            "address": "192.0.2.2:7000",
            **more,
        }
    )


def refused(log, command) -> str:
    with pytest.raises(PlatformError) as caught:
        log.apply(command)
    assert caught.value.code == "denied"
    return str(caught.value.data["reason"])


def test_a_token_lets_in_one_key_and_this_one_again(log) -> None:
    text = log.token()
    assert log.apply(use(text)) == {"node": "n2", "repeated": False}
    assert log.apply(use(text)) == {"node": "n2", "repeated": True}
    assert refused(log, use(text, key=OTHER_KEY)) == "the token was used by the node n2"
    assert refused(log, use(text, node="n3")) == "the token was used by the node n2"
    event = JoinTokenUsed(token=text[6:22], node="n2", key=KEY, address="192.0.2.2:7000")
    assert log.events == [event, event]


def test_of_many_that_come_at_once_one_wins(log) -> None:
    text = log.token()
    won = 0
    for number in range(20):
        with contextlib.suppress(PlatformError):
            log.apply(use(text, key=f"{number:064x}", node=f"x{number}"))
            won += 1
    assert won == 1


def test_a_check_leaves_the_token_as_it_is(log) -> None:
    text = log.token()
    assert log.apply(use(text, check_only=True)) == {"node": "n2", "repeated": False}
    log.apply(use(text, key=OTHER_KEY))
    assert "used" in refused(log, use(text, check_only=True))


def test_an_unknown_or_forged_token_is_refused(log) -> None:
    text = log.token()
    assert refused(log, use(text, token_id="0" * 16)) == "an unknown token"
    assert refused(log, use(text, digest="0" * 64)) == "a token with a wrong secret"
    log.apply(use(text))


def test_a_token_expires_with_an_allowance_for_clocks_that_differ(log) -> None:
    text = log.token(life_s=100)
    log.clock.forward(100 + CLOCK_SKEW_S)
    log.apply(use(text))
    log.clock.forward(1)
    assert refused(log, use(text)) == "an expired token"


def test_a_revoked_token_lets_nobody_in(log) -> None:
    text = log.token()
    identity = text[6:22]
    assert log.apply(RevokeJoinToken(token_id=identity)) == {"token": identity, "node": ""}
    log.apply(RevokeJoinToken(token_id=identity))
    assert refused(log, use(text)) == "a revoked token"
    with pytest.raises(PlatformError) as caught:
        log.apply(RevokeJoinToken(token_id="0" * 16))
    assert caught.value.code == "no-such-target"


def test_two_tokens_do_not_let_two_machines_in_under_one_name(log) -> None:
    one, two = log.token(), log.token()
    log.apply(use(one))
    with pytest.raises(PlatformError) as caught:
        log.apply(use(two, key=OTHER_KEY))
    assert (caught.value.code, caught.value.data["node"]) == ("conflict", "n2")
    log.apply(use(two, key=KEY))  # the same machine, with a second token


def test_a_name_is_free_again_when_the_token_that_took_it_has_expired(log) -> None:
    one = log.token(life_s=100)
    log.apply(use(one))
    log.clock.forward(100 + CLOCK_SKEW_S + 1)
    log.apply(use(log.token(), key=OTHER_KEY))


def test_tokens_are_bounded_and_the_expired_make_room(log) -> None:
    for _ in range(JOIN_TOKENS_MAX):
        log.token(life_s=100)
    with pytest.raises(PlatformError) as caught:
        log.token()
    assert caught.value.code == "limit-exceeded"
    log.clock.forward(100 + JOIN_TOKEN_KEPT_S + 1)
    log.token()
    assert len(log.state.tokens()) == 1


@pytest.mark.parametrize("life_s", [0, -5, JOIN_TOKEN_LIFE_S_MAX + CLOCK_SKEW_S + 1])
def test_a_life_out_of_range_is_refused_by_field(log, life_s: int) -> None:
    expires_ms = log.clock.now_ms() + life_s * 1_000
    with pytest.raises(PlatformError) as caught:
        log.apply(CreateJoinToken(token_id="1" * 16, digest="2" * 64, expires_ms=expires_ms))
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", "expires_ms")
    with pytest.raises(PlatformError, match="life"):
        new_token(
            bytes(24), "ab" * 32, now_ms=0, life_s=min(life_s, 0) or JOIN_TOKEN_LIFE_S_MAX + 1
        )


def test_who_was_let_in_is_known_by_name_and_key(log) -> None:
    text = log.token()
    assert not log.state.invited("n2", KEY)
    log.apply(use(text))
    assert log.state.invited("n2", KEY)
    assert not log.state.invited("n2", OTHER_KEY)
    assert not log.state.invited("n3", KEY)
    log.apply(RevokeJoinToken(token_id=text[6:22]))
    assert not log.state.invited("n2", KEY)


def test_a_token_is_not_made_twice(log) -> None:
    _, command = new_token(
        bytes(24), "ab" * 32, now_ms=log.clock.now_ms(), life_s=JOIN_TOKEN_LIFE_S
    )
    log.apply(command)
    with pytest.raises(PlatformError) as caught:
        log.apply(command)
    assert caught.value.code == "conflict"


def test_no_secret_is_in_the_state_or_in_a_command(log) -> None:
    text = log.token()
    secret = text.split("-")[2]
    log.apply(use(text))
    assert secret.encode() not in log.machine.snapshot_bytes()
    assert secret not in repr(use(text))
    assert secret not in repr(new_token(bytes(24), "ab" * 32, now_ms=0, life_s=9)[1])


def test_a_snapshot_brings_back_the_same_state(log) -> None:
    texts = [log.token() for _ in range(3)]
    log.apply(use(texts[1]))
    log.apply(RevokeJoinToken(token_id=texts[2][6:22]))
    before = log.machine.snapshot_bytes()
    log.machine.restore_bytes(before)
    assert log.machine.snapshot_bytes() == before
    assert [str(entry.state) for entry in log.state.tokens()] == ["made", "used", "revoked"]
    assert refused(log, use(texts[1], key=OTHER_KEY)).startswith("the token was used")
    other = JoinTokenState()
    other.restore(log.state.snapshot())
    assert other.tokens() == log.state.tokens()
