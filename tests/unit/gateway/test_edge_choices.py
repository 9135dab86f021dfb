"""Which route, which member, whether again: the decisions of the data path."""

from __future__ import annotations

import ipaddress
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.gateway import balance
from paas.gateway.backends import Member
from paas.gateway.breaker import FAILURES_MAX, OPEN_S, Breaker
from paas.gateway.http import forwarded
from paas.gateway.http2.counting import Patience
from paas.gateway.messages import Route
from paas.gateway.rates import Rates, source
from paas.gateway.retry import may_retry
from paas.gateway.router import Router, member_target, normal
from paas.gateway.tls.names import covers, find

ROUTES = [
    Route(name="any", group="g"),
    Route(name="any-api", group="g", path="/api"),
    Route(name="exact", group="g", host="a.example.org"),
    Route(name="exact-api", group="g", host="A.example.org.", path="/api/"),
    Route(name="wild", group="g", host="*.example.org", path="/api/v2"),
    Route(name="wider", group="g", host="*.org"),
    Route(name="zz-same", group="g", host="a.example.org"),
]


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        ("x", "/", "any"),
        ("x", "/api", "any-api"),
        ("x", "/api/", "any-api"),
        ("x", "/apix", "any"),
        ("", "/api/x", "any-api"),
        ("a.example.org", "/", "exact"),
        ("a.example.org", "/api", "exact-api"),
        ("a.example.org", "/api/v2", "exact-api"),
        ("b.example.org", "/api/v2/x", "wild"),
        ("c.b.example.org", "/api/v2", "wild"),
        ("b.example.org", "/api", "wider"),
        ("example.org", "/api", "wider"),
        ("org", "/api", "any-api"),
        ("x", "/%61pi", "any-api"),
        ("x", "/%2561pi", "any"),
        ("x", "/a%2Fpi", "any"),
    ],
)
def test_exact_before_wildcard_before_any_then_the_longest_path(
    host: str, path: str, name: str
) -> None:
    route = Router(ROUTES).match(host, path)
    assert route is not None
    assert route.name == name


def test_no_route_and_too_many_hosts() -> None:
    router = Router([Route(name="a", group="g", host="a")])
    for number in range(10_000):
        assert router.match(f"h{number}", "/") is None
    assert router.match("a", "/") is not None
    assert len(router._known) <= 4_096


@settings(deadline=None)
@given(st.text("/ab%4162", max_size=20))
def test_a_path_is_normal_after_once(path: str) -> None:
    assert len(normal(path)) <= len(path)


@pytest.mark.parametrize(
    ("prefix", "path", "query", "target"),
    [
        ("/api", "/api/x", "", "/x"),
        ("/api", "/api", "q=1", "/?q=1"),
        ("/api/", "/api/x", "", "/x"),
        ("/", "/x", "", "/x"),
        ("/api", "/%61p%69/%61", "", "/%61"),
    ],
)
def test_a_prefix_is_stripped(prefix: str, path: str, query: str, target: str) -> None:
    route = Route(name="r", group="g", path=prefix, strip_prefix=True)
    assert member_target(route, path, query) == target


def members(*weights: int) -> list[Member]:
    return [Member(f"m{n}", "127.0.0.1", 1000 + n, weight=w) for n, w in enumerate(weights)]


def test_weights_are_exact_in_any_stretch() -> None:
    some = members(5, 3, 2, 0)
    chosen = [balance.choose(some, 0.0, random.Random(1).random) for _ in range(100)]
    for at in range(90):
        counts = Counter(m.component for m in chosen[at : at + 10] if m)
        assert counts == {"m0": 5, "m1": 3, "m2": 2}


def test_of_two_the_less_busy_is_chosen_and_nobody_is_left_out() -> None:
    some = members(100, 100, 100, 100)
    draw = random.Random(7).random
    some[0].in_flight = 50
    counts = Counter(m.component for _ in range(400) if (m := balance.choose(some, 0.0, draw)))
    assert counts["m0"] == 0
    assert min(counts[f"m{n}"] for n in (1, 2, 3)) > 80


def test_who_leaves_or_was_tried_or_failed_gets_nothing() -> None:
    some = members(1, 1, 1, 1)
    some[0].state = "leaving"
    some[1].weight = 0
    for _ in range(FAILURES_MAX):
        some[2].breaker.failed(0.0)
    for _ in range(50):
        assert balance.choose(some, 0.1, random.random) is some[3]
    assert balance.choose(some, 0.1, random.random, tried=[some[3]]) is None
    assert balance.choose([], 0.1, random.random) is None


def test_an_address_stays_with_its_member_when_another_one_comes_or_goes() -> None:
    some = members(1, 1, 1, 1, 1)
    addresses = [f"10.0.{a}.{b}" for a in range(10) for b in range(20)]
    before = {a: balance.by_address(some, a, 0.0) for a in addresses}
    after = {a: balance.by_address(some[:4], a, 0.0) for a in addresses}
    moved = [a for a in addresses if before[a] is not after[a]]
    assert all(before[a] is some[4] for a in moved)
    assert len(set(before.values())) == 5


def test_a_cookie_names_its_member_until_it_leaves() -> None:
    route = Route(name="shop.web", group="g", sticky="cookie", path="/shop")
    some = members(1, 1, 1)
    said = balance.set_cookie(route, some[1], secure=True)
    assert said.endswith("; Path=/shop; HttpOnly; SameSite=Lax; Secure")
    cookies = f"a=b; {said.partition(';')[0]}; c=d"
    assert balance.by_cookie(some, route, cookies, 0.0) is some[1]
    assert balance.by_cookie(some, route, "a=b", 0.0) is None
    assert balance.by_cookie(some, Route(name="other", group="g"), cookies, 0.0) is None
    some[1].state = "leaving"
    assert balance.by_cookie(some, route, cookies, 0.0) is None
    assert some[1].component not in said


def test_a_breaker_opens_tries_once_and_waits_longer_each_time() -> None:
    breaker = Breaker()
    now = 0.0
    for _ in range(FAILURES_MAX - 1):
        breaker.failed(now)
        assert breaker.allows(now)
    breaker.failed(now)
    waits = []
    for _ in range(8):
        assert not breaker.allows(now)
        waits.append(breaker.open_until - now)
        now = breaker.open_until
        assert breaker.allows(now)
        breaker.began()
        assert not breaker.allows(now)  # one trial at a time
        breaker.failed(now)
    assert waits == [OPEN_S, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    now = breaker.open_until
    breaker.began()
    breaker.given_up()
    assert breaker.allows(now)
    breaker.succeeded()
    assert (breaker.failures, breaker.open_s, breaker.trial) == (0, OPEN_S, False)


PLAIN, IDEMPOTENT = Route(name="r", group="g"), Route(name="r", group="g", idempotent=True)


@pytest.mark.parametrize(
    ("route", "method", "sent", "again"),
    [
        (PLAIN, "GET", True, True),
        (PLAIN, "PUT", True, True),
        (PLAIN, "POST", True, False),
        (PLAIN, "POST", False, True),
        (PLAIN, "PATCH", True, False),
        (IDEMPOTENT, "POST", True, True),
    ],
)
def test_only_what_cannot_do_a_thing_twice_is_sent_again(
    route: Route, method: str, sent: bool, again: bool
) -> None:
    def decide(*, passed_on: bool = False, body_kept: bool = True, tries: int = 1) -> bool:
        return may_retry(
            route, method, sent=sent, passed_on=passed_on, body_kept=body_kept, tries=tries
        )

    assert decide() is again
    assert decide(tries=route.retries) is again
    assert not decide(passed_on=True)
    assert not decide(body_kept=False)
    assert not decide(tries=route.retries + 1)


# -- beside ----------------------------------------------------------------------------------------


def test_a_rate_lets_so_many_pass_and_no_more() -> None:
    rates, route = Rates(), Route(name="r", group="g", rate=5.0)
    passed = sum(rates.wait_s(route, "1.2.3.4", n / 100) == 0 for n in range(1_000))
    assert passed == pytest.approx(5 + 10 * 5, abs=1)
    assert rates.wait_s(route, "1.2.3.5", 10.0) == 0
    slow = Route(name="s", group="g", rate=0.1)
    assert rates.wait_s(slow, "1.2.3.4", 0.0) == 0
    assert rates.wait_s(slow, "1.2.3.4", 1.0) == pytest.approx(9.0)


def test_sources_are_bounded_and_a_browser_of_ipv6_is_one() -> None:
    rates, route = Rates(sources_max=100), Route(name="r", group="g", rate=1.0)
    for number in range(1_000):
        rates.wait_s(route, f"10.0.{number // 250}.{number % 250}", 0.0)
    assert len(rates) == 100
    assert source("2001:db8::1") == source("2001:db8::ffff") != source("2001:db8:0:1::1")


def test_the_browser_behind_trusted_proxies() -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8")]
    chain = [("x-forwarded-for", "6.6.6.6, 9.9.9.9"), ("x-forwarded-for", "10.1.1.1")]
    assert forwarded.client_of("10.0.0.1", chain, networks) == "9.9.9.9"
    assert forwarded.client_of("8.8.8.8", chain, networks) == "8.8.8.8"
    assert forwarded.client_of("10.0.0.1", [], networks) == "10.0.0.1"
    assert forwarded.client_of("10.0.0.1", [("x-forwarded-for", "junk")], networks) == "10.0.0.1"
    assert 'for="[2001:db8::1]"' in forwarded.fields("2001:db8::1", "x", "https", [])


def test_a_connection_is_put_up_with_for_so_long() -> None:
    patience = Patience(3, 5, 10.0)
    assert [patience.reset(1.0) for _ in range(4)] == [True, True, True, False]
    assert patience.reset(20.0)
    assert [patience.control(20.0) for _ in range(6)] == [True] * 5 + [False]
    patience.sent(1 << 20)
    assert all(patience.control(20.0) for _ in range(500))


def test_a_certificate_of_a_name() -> None:
    table = {"a.b": 1, "*.b": 2}
    assert [find(table, n) for n in ("a.b", "c.b", "d.c.b", "b", "a.b.")] == [1, 2, None, None, 1]
    assert covers(frozenset({"*.b"}), "x.b")
    assert not covers(frozenset({"*.b"}), "b")
