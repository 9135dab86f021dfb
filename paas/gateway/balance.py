"""Which member a request goes to: only who serves, by weight, to the less busy, or to its own.

- Weights that are the same for all: of two members by lot the less busy (the power of two choices;
  M. Mitzenmacher, 2001).
- Weights that differ: each in its turn, so that in any stretch the shares are exact to one request
  (smooth weighted round robin).
- `sticky = "cookie"`: the member whose token the browser brings; `"address"`: the member that has
  the highest hash with the browser's address, so that one member more or less moves only its own
  browsers (rendezvous hashing; D. Thaler, C. Ravishankar, 1998).

Who leaves, is over its breaker, or was tried already, gets nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

from paas.gateway.backends import Member
from paas.gateway.messages import Route

Draw = Callable[[], float]
"""A number in [0, 1), by lot."""

COOKIE_PREFIX = "paas-member-"
TOKEN_CHARACTERS = 20


def choose(
    members: Sequence[Member],
    now: float,
    draw: Draw,
    tried: Collection[Member] = (),
) -> Member | None:
    """One of those who may get the request; `draw` gives a number in [0, 1)."""
    count = len(members)
    if count > 1 and not tried:
        # The common case without a list: two by lot, both well and of the same weight.
        at = int(draw() * count)
        one, other = members[at], members[at - 1 - int(draw() * (count - 1))]
        if one.weight == other.weight and well(one) and well(other) and _even(members):
            return one if one.in_flight <= other.in_flight else other
    able = [m for m in members if usable(m, now) and m not in tried]
    if not able:
        return None
    if len(able) == 1:
        return able[0]
    if len({m.weight for m in able}) > 1:
        return _in_turn(able)
    at = int(draw() * len(able))
    one, other = able[at], able[at - 1 - int(draw() * (len(able) - 1))]
    return one if one.in_flight <= other.in_flight else other


def usable(member: Member, now: float) -> bool:
    """May it get something new?"""
    return member.state == "serving" and member.weight > 0 and member.breaker.allows(now)


def well(member: Member) -> bool:
    """The same, without a look at the clock, for who has not failed."""
    return member.state == "serving" and member.weight > 0 and not member.breaker.failures


def _even(members: Sequence[Member]) -> bool:
    weight = members[0].weight
    return all(m.weight == weight for m in members)


def _in_turn(able: list[Member]) -> Member:
    total = 0
    for member in able:
        member.standing += member.weight
        total += member.weight
    best = max(able, key=lambda m: m.standing)
    best.standing -= total
    return best


def by_address(members: Sequence[Member], address: str, now: float) -> Member | None:
    """The member of a browser's address."""
    able = [m for m in members if usable(m, now)]
    return max(able, key=lambda m: _score(address, m), default=None)


def _score(address: str, member: Member) -> bytes:
    return hashlib.blake2b(f"{address}\0{member.component}".encode(), digest_size=8).digest()


def token(route: Route, member: Member) -> str:
    """What the cookie holds: names the member to us, and tells nobody its identifier."""
    text = f"{route.name}\0{member.component}\0{member.incarnation}"
    return hashlib.sha256(text.encode()).hexdigest()[:TOKEN_CHARACTERS]


def cookie_name(route: Route) -> str:
    """One cookie a route: names of routes are no names of cookies, so they are hashed."""
    return COOKIE_PREFIX + hashlib.sha256(route.name.encode()).hexdigest()[:8]


def by_cookie(members: Sequence[Member], route: Route, cookies: str, now: float) -> Member | None:
    """The member that the browser's cookie names, if it may get something new."""
    wanted = cookie_name(route) + "="
    for part in cookies.split(";"):
        part = part.strip()
        if part.startswith(wanted):
            said = part[len(wanted) :]
            for member in members:
                if usable(member, now) and token(route, member) == said:
                    return member
    return None


def set_cookie(route: Route, member: Member, secure: bool) -> str:
    """The value of Set-Cookie that makes the browser come back to the member."""
    path = route.path if route.path.startswith("/") else "/"
    text = f"{cookie_name(route)}={token(route, member)}; Path={path}; HttpOnly; SameSite=Lax"
    return text + "; Secure" if secure else text
