"""The JSON interface: which request asks what of the timeline.  Asks by the function it is given.

| request | what |
|---|---|
| `GET /api/session` | who one is: `{"user", "email"}`; no name: nobody yet |
| `POST /api/session` `{"user"}` | be somebody; `DELETE`: be nobody |
| `PUT /api/account` `{"email"}` | where mail goes to |
| `GET /api/timeline?before=AT,SEQ&source=&unread=1&limit=` | items, newest first |
| `GET /api/search?text=&everywhere=1` | items with these words, best first |
| `GET /api/sources` | what one follows: health, next poll, unread |
| `POST /api/sources` `{"url", "alert"}` | follow |
| `PUT /api/sources/ID` `{"alert"}`, `DELETE …` | change, do not follow any more |
| `POST /api/sources/ID/poll` | look at it now |
| `POST /api/marks` `{"items", "unread"}` or `{"source", "up_to"}` | read, unread |
| `GET /api/suggestions?offset=` | what could be followed here |
| `GET /api/health` | how much there is of everything; needs no name |
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import sessions
from exchange import Refusal, Reply, Request, json_reply

TIMELINES = "group:feeds.timelines"
ORIGINS = "group:feeds.origins"
URL_CHARS_MAX = 2_000
SUGGESTIONS_A_PAGE = 30

_ADDRESS = re.compile(
    r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:[/?][^\s\\<>\"]*)?", re.IGNORECASE
)

STATUS = {
    "invalid": 400,
    "denied": 403,
    "conflict": 409,
    "limit-exceeded": 429,
    "not-available": 503,
    "no-such-target": 503,
    "timeout": 504,
}
"""Of an error of the platform; all others are 502."""

Ask = Callable[[str, str, dict[str, Any]], Awaitable[Any]]


class PlatformError(Protocol):
    """What the SDK raises."""

    code: str
    message: str
    data: dict[str, Any]


def status_of(code: str) -> int:
    return STATUS.get(code, 502)


class Api:
    """`ask(target, operation, inputs)` awaits the outputs of somebody else."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def answer(self, request: Request) -> Reply:
        """Raises Refusal, and what `ask` raises."""
        name, _, rest = request.path.removeprefix("/api/").partition("/")
        handler = _HANDLERS.get((request.method, name if not rest else f"{name}/{_shape(rest)}"))
        if handler is None:
            known = any(_is_at(path, name, rest) for _, path in _HANDLERS)
            raise Refusal(405 if known else 404, "there is no such thing to ask for")
        if request.method != "GET" and not sessions.is_same_site(request.headers):
            raise Refusal(403, "asked by a page of another site", "origin")
        user = sessions.user_of(request.headers)
        if not user and name not in ("session", "health"):
            raise Refusal(401, "say who you are first", "user")
        return await handler(self, request, user, rest)

    async def _timeline(self, operation: str, **inputs: Any) -> Any:
        return await self._ask(TIMELINES, operation, inputs)

    async def session(self, request: Request, user: str, rest: str) -> Reply:
        if not user:
            return json_reply({"user": "", "email": ""})
        account = await self._timeline("account", user=user)
        return json_reply({"user": account["name"], "email": account["email"]})

    async def begin(self, request: Request, user: str, rest: str) -> Reply:
        name = sessions.name_of(str(request.json().get("user", "")))
        if not name:
            text = "expected 1 to 32 letters, digits, dots and hyphens"
            raise Refusal(400, text, "user")
        account = await self._timeline("account", user=name)
        cookie = sessions.cookie(name, sessions.is_secure(request.headers))
        value = {"user": name, "email": account["email"]}
        return json_reply(value, headers=(("set-cookie", cookie),))

    async def end(self, request: Request, user: str, rest: str) -> Reply:
        cookie = sessions.cookie("", sessions.is_secure(request.headers))
        return json_reply({}, headers=(("set-cookie", cookie),))

    async def set_account(self, request: Request, user: str, rest: str) -> Reply:
        email = str(request.json().get("email", "")).strip()
        return json_reply(await self._timeline("set_account", user=user, email=email))

    async def timeline(self, request: Request, user: str, rest: str) -> Reply:
        inputs: dict[str, Any] = {"user": user, "limit": max(1, request.number("limit", 30, 100))}
        if before := request.option("before"):
            found = re.fullmatch(r"(\d{1,16}),(\d{1,16})", before, re.ASCII)
            if not found:
                raise Refusal(400, "expected the at_ms and seq of an item", "before")
            inputs["before"] = [int(found[1]), int(found[2])]
        if source := request.number("source", 0):
            inputs["source"] = source
        if request.option("unread") == "1":
            inputs["unread"] = True
        return json_reply(await self._timeline("timeline", **inputs))

    async def search(self, request: Request, user: str, rest: str) -> Reply:
        everywhere = request.option("everywhere") == "1"
        text = request.option("text")
        limit = max(1, request.number("limit", 30, 100))
        found = await self._timeline(
            "search", user=user, text=text, everywhere=everywhere, limit=limit
        )
        return json_reply(found)

    async def sources(self, request: Request, user: str, rest: str) -> Reply:
        return json_reply(await self._timeline("subscriptions", user=user))

    async def subscribe(self, request: Request, user: str, rest: str) -> Reply:
        body = request.json()
        url = address(str(body.get("url", "")))
        alert = str(body.get("alert", "none"))
        found = await self._timeline("subscribe", user=user, url=url, alert=alert)
        return json_reply(found, 201)

    async def change(self, request: Request, user: str, rest: str) -> Reply:
        alert = str(request.json().get("alert", ""))
        done = await self._timeline("set_alert", user=user, source=int(rest), alert=alert)
        return json_reply(_or_missing(done["done"], done))

    async def unsubscribe(self, request: Request, user: str, rest: str) -> Reply:
        done = await self._timeline("unsubscribe", user=user, source=int(rest))
        return json_reply(_or_missing(done["done"], done))

    async def poll(self, request: Request, user: str, rest: str) -> Reply:
        found = await self._timeline("poke", source=int(rest.partition("/")[0]))
        return json_reply(found, 202)

    async def marks(self, request: Request, user: str, rest: str) -> Reply:
        body = request.json()
        inputs: dict[str, Any] = {"user": user}
        if "items" in body:
            items = body["items"]
            if not isinstance(items, list) or not all(isinstance(seq, int) for seq in items):
                raise Refusal(400, "expected a list of numbers", "items")
            inputs |= {"items": items, "unread": bool(body.get("unread"))}
        for name in ("source", "up_to"):
            if isinstance(body.get(name), int):
                inputs[name] = body[name]
        return json_reply(await self._timeline("mark", **inputs))

    async def suggestions(self, request: Request, user: str, rest: str) -> Reply:
        inputs = {"offset": request.number("offset", 0), "limit": SUGGESTIONS_A_PAGE}
        return json_reply(await self._ask(ORIGINS, "catalogue", inputs))

    async def health(self, request: Request, user: str, rest: str) -> Reply:
        return json_reply(await self._timeline("statistics"))


def address(text: str) -> str:
    """What somebody typed as an address; raises Refusal.  The fetcher looks at it more closely."""
    found = text.strip()
    if found.startswith("feed:"):
        found = found.removeprefix("feed:").lstrip("/")
    if found and "://" not in found:
        found = f"http://{found}"
    found = found.partition("#")[0]
    if not _ADDRESS.fullmatch(found):
        raise Refusal(400, "expected an address as http://example.org/feed", "url")
    if len(found) > URL_CHARS_MAX:
        raise Refusal(400, f"an address has at most {URL_CHARS_MAX} characters", "url")
    scheme, _, rest = found.partition("://")
    host, slash, path = rest.partition("/")
    if "?" in host:
        host, _, query = host.partition("?")
        slash, path = "/?", query + slash + path
    return f"{scheme.lower()}://{host.lower()}{slash or '/'}{path}"


def _or_missing(done: bool, value: dict[str, Any]) -> dict[str, Any]:
    if not done:
        raise Refusal(404, "you do not follow this source", "source")
    return value


def _shape(rest: str) -> str:
    head, _, tail = rest.partition("/")
    is_number = head.isascii() and head.isdigit() and len(head) <= 16
    return ("ID" if is_number else "?") + (f"/{tail}" if tail else "")


def _is_at(path: str, name: str, rest: str) -> bool:
    return path == (name if not rest else f"{name}/{_shape(rest)}")


_HANDLERS: dict[tuple[str, str], Callable[[Api, Request, str, str], Awaitable[Reply]]] = {
    ("GET", "session"): Api.session,
    ("POST", "session"): Api.begin,
    ("DELETE", "session"): Api.end,
    ("PUT", "account"): Api.set_account,
    ("GET", "timeline"): Api.timeline,
    ("GET", "search"): Api.search,
    ("GET", "sources"): Api.sources,
    ("POST", "sources"): Api.subscribe,
    ("PUT", "sources/ID"): Api.change,
    ("DELETE", "sources/ID"): Api.unsubscribe,
    ("POST", "sources/ID/poll"): Api.poll,
    ("POST", "marks"): Api.marks,
    ("GET", "suggestions"): Api.suggestions,
    ("GET", "health"): Api.health,
}
