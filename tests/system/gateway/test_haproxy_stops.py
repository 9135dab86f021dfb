"""Members are replaced and killed under load, with HAProxy as the data path."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import trio

from paas.gateway.messages import MemberState, Route, RouteMember
from tests.system.gateway.haproxy_world import Origin, World, component, get, world

SITE = Route(name="site", group="web")
STOPS = 40
KILLS = 15


class Members:
    """Members that come and end; each is told to HAProxy as the platform would tell it."""

    def __init__(self, here: World, nursery: trio.Nursery) -> None:
        self.here = here
        self.nursery = nursery
        self.states: dict[int, MemberState] = {}
        self.running: dict[int, tuple[Origin, trio.CancelScope]] = {}
        self._last = 100

    async def start(self) -> int:
        self._last = number = self._last + 1
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        origin = Origin(f"m{number}", listener.socket.getsockname()[1])
        scope = trio.CancelScope()

        async def serve() -> None:
            with scope:
                await trio.serve_listeners(origin.one, [listener])

        self.nursery.start_soon(serve)
        self.running[number] = origin, scope
        await self.tell(number, "serving")
        return number

    async def tell(self, number: int, state: MemberState) -> None:
        self.states[number] = state
        if state == "gone":
            del self.states[number]
        members = [
            RouteMember(
                route="site",
                component=component(n),
                incarnation=1,
                node="n",
                host="127.0.0.1",
                port=self.running[n][0].port,
                state=now,
                weight=100,
            )
            for n, now in self.states.items()
        ]
        self.here.haproxy.update([SITE], members)

    def end(self, number: int) -> None:
        """At once, with all of its connections."""
        self.running[number][1].cancel()

    async def leave(self, number: int) -> None:
        """An orderly end: told, acknowledged, ended."""
        await self.tell(number, "leaving")
        with trio.fail_after(30):
            await self.here.haproxy.left(component(number), 1)
        self.end(number)
        await self.tell(number, "gone")


async def ask(here: World, method: str, answers: Counter[str], ending: trio.Event) -> None:
    while not ending.is_set():
        try:
            reply = await get(here.port, method=method, body=b"x" if method == "POST" else b"")
            answers[f"{method} {reply.status}"] += 1
        except (OSError, trio.BrokenResourceError) as exc:
            answers[f"{method} {exc!r}"] += 1
        await trio.sleep(0.002)


async def test_replacements_cost_no_request_and_kills_only_what_may_not_be_repeated(
    tmp_path: Path,
) -> None:
    """The acknowledgement counts: a member ends the moment that it is given, with all it has."""
    answers: Counter[str] = Counter()
    async with world(tmp_path, [SITE]) as here, trio.open_nursery() as nursery:
        members = Members(here, nursery)
        present = [await members.start() for _ in range(3)]
        await here.haproxy.settled()
        ending = trio.Event()
        async with trio.open_nursery() as clients:
            for method in ("GET", "POST", "POST", "GET"):
                clients.start_soon(ask, here, method, answers, ending)
            for _ in range(STOPS):
                present.append(await members.start())
                await members.leave(present.pop(0))
            stopped = dict(answers)
            for _ in range(KILLS):
                present.append(await members.start())
                await here.haproxy.settled()
                victim = present.pop(0)
                members.end(victim)
                await trio.sleep(0.05)
                await members.tell(victim, "gone")
            ending.set()
        nursery.cancel_scope.cancel()
    assert set(stopped) == {"GET 200", "POST 200"}
    assert sum(stopped.values()) > 500
    assert set(answers) <= {"GET 200", "POST 200", "POST 502"}, "nothing else after kills"
    assert (here.haproxy.starts, here.haproxy.reloads) == (1, 0)
