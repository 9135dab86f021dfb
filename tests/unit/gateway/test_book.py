"""What a gateway does with what it is told: members that stay themselves, and letting go."""

from __future__ import annotations

from typing import Any

from paas.gateway.backends import Member
from paas.gateway.component.book import Book, Incarnation
from paas.gateway.messages import (
    EndedMember,
    MemberState,
    Route,
    RouteMember,
    Table,
    TableChange,
)

SITE = Route(name="site", group="web")
ADMIN = Route(name="admin", group="web", path="/admin")


def told(
    component: str = "a", state: MemberState = "serving", route: str = "site", **fields: Any
) -> RouteMember:
    given = {"incarnation": 1, "node": "n1", "host": "10.0.0.2", "port": 80, "weight": 100}
    return RouteMember(route=route, component=component, state=state, **{**given, **fields})


def a_book(*members: RouteMember, routes: tuple[Route, ...] = (SITE,)) -> Book:
    book = Book()
    book.replace(Table(routes=list(routes), members=list(members)), 0.0)
    return book


def only(book: Book, route: Route = SITE) -> Member:
    (member,) = book.members(route)
    return member


def change(book: Book, *members: RouteMember, now: float = 0.0, **fields: Any) -> None:
    book.change(TableChange(members=list(members), **fields), now)


def test_a_member_stays_the_same_object_while_its_incarnation_lives() -> None:
    book = a_book(told())
    member = only(book)
    change(book, told(weight=7))
    assert only(book) is member
    assert member.weight == 7
    book.replace(Table(routes=[SITE], members=[told(port=81)]), 0.0)
    assert only(book) is member
    assert member.port == 81
    change(book, told(incarnation=2))
    assert only(book) is not member
    assert member.state == "gone"


def test_one_that_leaves_is_let_go_of_when_nothing_is_under_way() -> None:
    book = a_book(told())
    member = only(book)
    member.in_flight = 2
    change(book, told(state="leaving", drain_s=30.0), now=5.0)
    assert member.state == "leaving"
    assert member.drain_until == 35.0
    who = Incarnation("a", 1)
    assert book.leaving() == [who]
    assert not book.is_idle(who)
    member.in_flight = 1
    assert book.ended(member) is None
    member.in_flight = 0
    assert book.ended(member) == who
    assert book.is_idle(who)


def test_what_is_under_way_on_another_route_counts_too() -> None:
    book = a_book(told(), told(route="admin"), routes=(SITE, ADMIN))
    one, other = only(book), only(book, ADMIN)
    other.in_flight = 1
    change(book, told(state="leaving"), told(state="leaving", route="admin"))
    assert book.ended(one) is None
    other.in_flight = 0
    assert book.ended(other) == Incarnation("a", 1)


def test_what_is_under_way_on_a_route_that_was_removed_counts_still() -> None:
    book = a_book(told(), told(route="admin"), routes=(SITE, ADMIN))
    other = only(book, ADMIN)
    other.in_flight = 1
    change(book, removed=["admin"])
    change(book, told(state="leaving"))
    assert not book.is_idle(Incarnation("a", 1))
    other.in_flight = 0
    book.ended(other)
    assert book.is_idle(Incarnation("a", 1))


def test_a_new_table_replaces_all_and_one_that_is_not_in_it_is_gone() -> None:
    book = a_book(told("a"), told("b"))
    gone = next(m for m in book.members(SITE) if m.component == "a")
    book.replace(Table(routes=[ADMIN], members=[told("b", route="admin")]), 0.0)
    assert gone.state == "gone"
    assert not book.members(SITE)
    assert only(book, ADMIN).component == "b"
    assert list(book.router.routes) == ["admin"]


def test_a_departure_that_is_given_up_makes_it_serve_again() -> None:
    book = a_book(told())
    change(book, told(state="leaving", drain_s=9.0))
    change(book, told())
    member = only(book)
    assert (member.state, member.drain_until) == ("serving", 0.0)
    assert book.leaving() == []
    assert book.ended(member) is None


def test_the_end_of_a_drain_is_never_put_off() -> None:
    book = a_book(told())
    change(book, told(state="leaving", drain_s=10.0), now=0.0)
    change(book, told(state="leaving", drain_s=10.0, weight=1), now=8.0)
    assert only(book).drain_until == 10.0


def test_the_end_of_an_earlier_incarnation_does_not_touch_the_next() -> None:
    book = a_book(told(incarnation=2))
    change(book, told(state="gone", incarnation=1))
    assert only(book).state == "serving"


def test_nothing_is_kept_of_what_is_gone() -> None:
    book = a_book()
    for number in range(100):
        change(book, told(f"m{number}"))
        change(book, told(f"m{number}", state="gone"))
    assert not book._all
    assert not book.members(SITE)


def test_one_that_has_ended_has_ended_on_every_route_whatever_became_of_them() -> None:
    book = a_book(told(), told(route="admin"), routes=(SITE, ADMIN))
    one, other = only(book), only(book, ADMIN)
    one.in_flight = other.in_flight = 1
    change(book, removed=["admin"])
    assert (other.state, other.ended) == ("gone", False), "it answers what it was sent"
    change(book, ended=[EndedMember(component="a", incarnation=2)])
    assert not one.ended
    change(book, ended=[EndedMember(component="a", incarnation=1)])
    assert [(m.state, m.ended) for m in (one, other)] == [("gone", True)] * 2
    assert not book.members(SITE)
    one.in_flight = other.in_flight = 0
    assert book.ended(one) is book.ended(other) is None
    assert not book._all


def test_the_next_incarnation_shows_that_the_last_one_has_ended() -> None:
    book = a_book(told(), told("b"))
    first, second = book.members(SITE)
    first.in_flight = second.in_flight = 1
    change(book, told(incarnation=2))
    book.replace(Table(routes=[SITE], members=[told("a", incarnation=2)]), 0.0)
    assert (first.ended, second.ended) == (True, False), "of the other nothing is known"
    book.replace(Table(routes=[SITE], members=[told("b", incarnation=3)]), 0.0)
    assert second.ended


def test_one_that_ends_while_it_leaves_is_gone() -> None:
    book = a_book(told())
    member = only(book)
    member.in_flight = 1
    change(book, told(state="leaving", drain_s=30.0))
    change(book, told(state="gone"), ended=[EndedMember(component="a", incarnation=1)])
    assert (member.state, member.ended) == ("gone", True)
    member.in_flight = 0
    assert book.ended(member) is None
    assert not book._all


def test_who_leaves_on_one_route_is_let_go_of_when_the_last_request_of_a_removed_one_ends() -> None:
    book = a_book(told(), told(route="admin"), routes=(SITE, ADMIN))
    other = only(book, ADMIN)
    other.in_flight = 1
    change(book, told(state="leaving", drain_s=30.0), removed=["admin"])
    other.in_flight = 0
    assert book.ended(other) == Incarnation("a", 1)
