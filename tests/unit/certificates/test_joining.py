"""What a hub answers to those who want to join, and in which order it decides."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.certificates import messages, node_chain
from paas.certificates.join_terms import check_address, split_address
from paas.certificates.limits import (
    JOIN_CLOCK_S_MAX,
    JOIN_FAILURES_ALL_MAX,
    JOIN_FAILURES_MAX,
    JOIN_FAILURES_S,
    JOIN_PROTOCOL,
)
from paas.identity import csr, keys


def ask(cluster, token: str, *, key=None, node: str = "n2", **more) -> messages.Join:
    request = csr.make_node("c1", node, key or keys.make_key()).decode()
    fields = {
        "token": token,
        "node": node,
        "request": request,
        "address": "192.0.2.2:7000",
        "time_ms": cluster.clock.now_ms(),
        "protocol": JOIN_PROTOCOL,
    }
    return messages.Join(**{**fields, **more})


async def refused(cluster, params: messages.Join, source: str = "a") -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await cluster.service.join(params, source)
    return caught.value


async def test_a_node_with_a_token_is_let_in(cluster) -> None:
    key = keys.make_key()
    answer = await cluster.service.join(ask(cluster, cluster.token(), key=key))
    assert (answer.cluster, answer.version) == ("c1", "1.2")
    assert answer.peers == {"n1": "192.0.2.1:7000"}
    node_chain.check(
        node_chain.read(answer.chain.encode()),
        cluster="c1",
        node="n2",
        key=key.public_key(),
        authority=cluster.authority.fingerprint,
        now_ms=cluster.clock.now_ms(),
    )


async def test_a_lost_answer_is_given_again_to_the_same_key_only(cluster) -> None:
    key, token = keys.make_key(), cluster.token()
    await cluster.service.join(ask(cluster, token, key=key))
    await cluster.service.join(ask(cluster, token, key=key))
    assert (await refused(cluster, ask(cluster, token))).code == "denied"


async def test_a_holder_that_is_away_leaves_the_token_to_the_same_key(cluster) -> None:
    key, token = keys.make_key(), cluster.token()
    cluster.holder_is_there = False
    assert (await refused(cluster, ask(cluster, token, key=key))).code == "unavailable"
    cluster.holder_is_there = True
    await cluster.service.join(ask(cluster, token, key=key))


async def test_whatever_is_wrong_with_a_token_sounds_the_same(cluster) -> None:
    used, good = cluster.token(), cluster.token()
    await cluster.service.join(ask(cluster, used))
    expired = cluster.token(life_s=1)
    cluster.clock.forward(120)
    texts = [used, expired, good.replace(good[30], "0" if good[30] != "0" else "1"), "garbage"]
    errors = [await refused(cluster, ask(cluster, text)) for text in texts]
    assert {(e.code, e.message, str(e.data)) for e in errors} == {
        ("denied", errors[0].message, "{}")
    }
    reasons = [str(fields["reason"]) for event, fields in cluster.notices if "reason" in fields]
    assert "the token was used" in reasons[0]
    assert "an expired token" in reasons[1]
    assert reasons[3] == "not a token"
    assert all(good.split("-")[2] not in repr(notice) for notice in cluster.notices)


async def test_a_name_that_is_taken_is_said_to_the_invited_only(cluster) -> None:
    cluster.taken["n2"] = "f" * 64
    token = cluster.token()
    error = await refused(cluster, ask(cluster, token))
    assert (error.code, error.message) == ("conflict", "there is a node n2 already")
    forged = token[:-70] + "0" * 5 + token[-65:]
    assert (await refused(cluster, ask(cluster, forged))).code == "denied"
    await cluster.service.join(ask(cluster, token, node="n3"))  # the token is still good


async def test_a_name_that_is_taken_by_now_is_said_though_a_token_was_used_for_it_lately(
    cluster,
) -> None:
    await cluster.service.join(ask(cluster, cluster.token()))
    token = cluster.token()
    assert "another machine is joining" in (await refused(cluster, ask(cluster, token))).message
    cluster.taken["n2"] = "f" * 64  # the node is there, or was and is removed
    error = await refused(cluster, ask(cluster, token))
    assert (error.code, error.message) == ("conflict", "there is a node n2 already")
    await cluster.service.join(ask(cluster, token, node="n3"))  # the token is still good


async def test_the_holder_s_own_name_is_never_given_away(cluster) -> None:
    assert (await refused(cluster, ask(cluster, cluster.token(), node="n1"))).code == "conflict"


@pytest.mark.parametrize("ahead_s", [600, -600, JOIN_CLOCK_S_MAX + 1])
async def test_a_clock_that_is_off_is_named_with_how_much_and_costs_no_token(
    cluster, ahead_s: int
) -> None:
    token = cluster.token()
    wrong = ask(cluster, token, time_ms=cluster.clock.now_ms() + ahead_s * 1_000)
    error = await refused(cluster, wrong)
    assert error.code == "refused"
    how = f"{abs(ahead_s)} s {'ahead of' if ahead_s > 0 else 'behind'} the cluster's"
    assert f"this node's clock is {how}" in error.message
    assert error.data == {"clock_ahead_s": ahead_s}
    await cluster.service.join(ask(cluster, token))


@pytest.mark.parametrize("ahead_s", [60, -60])
async def test_a_minute_s_difference_is_fine(cluster, ahead_s: int) -> None:
    time_ms = cluster.clock.now_ms() + ahead_s * 1_000
    await cluster.service.join(ask(cluster, cluster.token(), time_ms=time_ms))


async def test_another_version_of_the_protocol_is_named(cluster) -> None:
    error = await refused(cluster, ask(cluster, cluster.token(), protocol=9))
    assert error.code == "unsupported"
    assert "(version 1.2) speaks version 1" in error.message
    assert "this node version 9" in error.message


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("node", {"node": "Not A Node"}),
        ("address", {"address": "nowhere"}),
        ("address", {"address": "host:70000"}),
        ("request", {"request": "garbage"}),
        ("request", {"node": "n3", "request": csr.make_node("c1", "n2", keys.make_key()).decode()}),
        ("request", {"request": csr.make_node("c2", "n2", keys.make_key()).decode()}),
    ],
)
async def test_a_bad_value_is_refused_by_field(cluster, field: str, change) -> None:
    params = ask(cluster, cluster.token(), node="n2")
    broken = messages.Join(
        **{
            **{name: getattr(params, name) for name in params.__struct_fields__},
            **change,
        }
    )
    error = await refused(cluster, broken)
    assert (error.code, error.data["field"]) == ("invalid", field)


async def test_who_is_refused_often_is_not_listened_to_for_a_while(cluster) -> None:
    for _ in range(JOIN_FAILURES_MAX):
        assert (await refused(cluster, ask(cluster, "x"))).code == "denied"
    token = cluster.token()
    before = cluster.log.index
    assert (await refused(cluster, ask(cluster, token))).code == "limit-exceeded"
    assert cluster.log.index == before
    await cluster.service.join(ask(cluster, token), "another address")
    cluster.clock.forward(JOIN_FAILURES_S + 1)
    await cluster.service.join(ask(cluster, cluster.token(), node="n3"), "a")


async def test_all_together_are_bounded_too(cluster) -> None:
    for number in range(JOIN_FAILURES_ALL_MAX):
        await refused(cluster, ask(cluster, "x"), f"address {number}")
    error = await refused(cluster, ask(cluster, cluster.token()), "a new address")
    assert error.code == "limit-exceeded"


@pytest.mark.parametrize("text", ["192.0.2.1:80", "node-2.example:65535", "[2001:db8::1]:7000"])
def test_addresses_are_host_and_port(text: str) -> None:
    host, port = split_address(text)
    assert text in (f"{host}:{port}", f"[{host}]:{port}")


@pytest.mark.parametrize("text", ["", ":80", "host", "host:", "host:0", "2001:db8::1:7", "a b:7"])
def test_other_texts_are_no_addresses(text: str) -> None:
    with pytest.raises(PlatformError, match="address"):
        check_address(text)
