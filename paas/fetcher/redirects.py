"""Which request follows a redirect, and which ones are remembered.

    301 302     GET and HEAD stay, POST becomes GET (what all browsers do: RFC 9110 §15.4 note)
    303         becomes GET, HEAD stays
    307 308     method and body stay
    301 308     permanent: remembered for GET and HEAD, told to the caller as `moved_to`

Refused: more than the bound, one that was there already, from https to http, into the inside of the
network from another origin (transport.py finds that out, by address), what is no http URL.  To
another origin go no credentials, no cookies, no authorisation (fetch standard, §4.4).
"""

from __future__ import annotations

from dataclasses import dataclass

from paas.fetcher.limits import MOVED_LIFE_S, MOVED_MAX
from paas.fetcher.trouble import trouble
from paas.fetcher.urls import Url, join

FOLLOWED = frozenset({301, 302, 303, 307, 308})
PERMANENT = frozenset({301, 308})
PRIVATE_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_BODY_HEADERS = frozenset({"content-type", "content-encoding", "content-language"})


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a journey."""

    url: Url
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    foreign: bool = False
    """A redirect led here from another origin than the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A redirect that was followed."""

    status: int
    url: str
    """Where it came from."""


class Journey:
    """The requests from the URL that was asked for to the answer."""

    def __init__(self, first: Step, redirects_max: int) -> None:
        self.step = first
        self.hops: list[Hop] = []
        self._max = redirects_max
        self._seen = {(first.method, str(first.url))}
        self._permanent = True
        self.moved_to = ""
        """Where all permanent redirects from the beginning led; empty: there were none."""

    def follow(self, status: int, location: str) -> Step:
        """The next request.  Raises PlatformError with the reasons of `trouble`."""
        here = self.step
        if len(self.hops) >= self._max:
            raise trouble("redirects", f"more than {self._max} redirects", hops=self._told())
        url = join(here.url, location)
        if here.url.secure and not url.secure:
            raise trouble(
                "downgrade", f"{here.url.host} redirects from https to http", hops=self._told()
            )
        method, headers, body = here.method, here.headers, here.body
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", b""
            headers = tuple(h for h in headers if h[0].lower() not in _BODY_HEADERS)
        if url.origin != here.url.origin:
            headers = tuple(h for h in headers if h[0].lower() not in PRIVATE_HEADERS)
        if (method, str(url)) in self._seen:
            raise trouble("redirect-loop", f"{url.host} redirects in a circle", hops=self._told())
        self._seen.add((method, str(url)))
        self.hops.append(Hop(status, str(here.url)))
        self._permanent = self._permanent and status in PERMANENT
        if self._permanent and method in ("GET", "HEAD"):
            self.moved_to = str(url)
        foreign = here.foreign or url.origin != here.url.origin
        self.step = Step(url, method, headers, body, foreign)
        return self.step

    def _told(self) -> list[dict[str, object]]:
        return [{"status": hop.status, "url": hop.url} for hop in self.hops]


class Moved:
    """Permanent redirects that were seen, bounded in number and time; the oldest go first.

    Remembered is the place only.  Whoever is led there by memory is judged as if led by the server.
    """

    def __init__(self, count_max: int = MOVED_MAX, life_s: float = MOVED_LIFE_S) -> None:
        self._places: dict[str, tuple[Url, float]] = {}
        self._max = count_max
        self._life_s = life_s

    def __len__(self) -> int:
        return len(self._places)

    def remember(self, url: Url, to: Url, now: float) -> None:
        """`url` is at `to` from now on."""
        if url == to or (url.secure and not to.secure):
            return
        self._places.pop(str(url), None)
        self._places[str(url)] = (to, now + self._life_s)
        while len(self._places) > self._max:
            del self._places[next(iter(self._places))]

    def place(self, url: Url, now: float) -> Url:
        """Where it is now: at most one step, or two servers could make a circle of memories."""
        found = self._places.get(str(url))
        if found is None:
            return url
        if found[1] <= now:
            del self._places[str(url)]
            return url
        return found[0]

    def forget(self, url: Url) -> None:
        """It is not there (404, 410), or cannot be reached: ask at the old place again."""
        self._places.pop(str(url), None)
