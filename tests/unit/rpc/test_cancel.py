"""`rpc.cancel`: who no longer wants an answer gets none, and whoever works on it is told."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.base.limits import OUTSTANDING_REQUESTS_MAX
from paas.real.clock import SystemClock
from paas.rpc.connection import Connection
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import EMPTY_BODY, Form, Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import BY_NAME, BY_NUMBER, Method, Nothing, Params, method

FORMS = [Form.JSON, Form.MSGPACK, Form.COMPACT]


class Served:
    """A connection whose requests are kept, with a client on the other side."""

    def __init__(self, form: Form) -> None:
        self.client, self.server = Connection(form), Connection(form)
        self.answers: list[str] = []
        self.requests: list[Request] = []
        self.told: list[object] = []

    def ask(self) -> int:
        def answer(value: bytes | PlatformError) -> None:
            self.answers.append(value.code if isinstance(value, PlatformError) else "answered")

        identity, data = self.client.request("t.work", codec.pack({}), answer, 10.0)
        self.hand_over(data)
        return identity

    def hand_over(self, data: bytes) -> None:
        for request in self.server.receive(data):
            request.on_cancel = partial(self.told.append, request.id)
            self.requests.append(request)
        self.client.receive(self.server.take_outbox())


@pytest.mark.parametrize("form", FORMS)
def test_an_abandoned_request_is_answered_here_and_told_there_once(form: Form) -> None:
    served = Served(form)
    identity = served.ask()
    served.hand_over(served.client.abandon(identity))
    assert served.answers == ["cancelled"]
    assert served.told == [identity]
    assert served.client.abandon(identity) == b""
    assert served.server.outstanding == 1, "who works on it has not come to an end"
    assert served.server.reply(served.requests[0], EMPTY_BODY) == b""
    assert served.server.outstanding == served.client.waiting == 0
    assert served.answers == ["cancelled"]


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_that_met_the_cancellation_on_its_way_is_dropped(form: Form) -> None:
    served = Served(form)
    identity = served.ask()
    answer = served.server.reply(served.requests[0], EMPTY_BODY)
    cancel = served.client.abandon(identity)
    served.client.receive(answer)
    served.hand_over(cancel)
    assert served.answers == ["cancelled"]
    assert served.told == []
    assert (served.client.dropped_answers, served.server.ignored_cancels) == (1, 1)
    assert served.server.outstanding == 0


def test_a_cancellation_after_the_answer_changes_nothing() -> None:
    served = Served(Form.COMPACT)
    identity = served.ask()
    served.client.receive(served.server.reply(served.requests[0], EMPTY_BODY))
    assert served.client.abandon(identity) == b""
    assert served.answers == ["answered"]


def test_a_request_whose_deadline_passes_is_cancelled_where_it_is_worked_on() -> None:
    served = Served(Form.COMPACT)
    identity = served.ask()
    served.client.expire(9.9)
    assert served.client.take_outbox() == b""
    served.client.expire(10.0)
    served.hand_over(served.client.take_outbox())
    assert served.answers == ["timeout"]
    assert served.told == [identity]


def test_the_end_of_the_connection_cancels_what_the_peer_wanted() -> None:
    served = Served(Form.COMPACT)
    asked = [served.ask() for _ in range(3)]
    served.server.reply(served.requests[1], EMPTY_BODY)
    served.server.end(PlatformError("unknown-outcome"))
    assert served.told == [asked[0], asked[2]]
    served.server.end(PlatformError("unknown-outcome"))
    assert len(served.told) == 2


def talk(server: Connection, *values: Any) -> list[Request]:
    return server.receive(b"".join(json.dumps(v).encode() + b"\n" for v in values))


def request(identity: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": "t.work"}


def cancel(identity: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "rpc.cancel", "params": {"id": identity}}


def test_what_is_cancelled_before_it_was_seen_never_gets_there() -> None:
    server = Connection(Form.JSON)
    (left,) = talk(server, request(1), request("two"), cancel(1), cancel("two"), request(3))
    assert left.id == 3
    assert server.take_outbox() == b""
    assert server.outstanding == 1


@pytest.mark.parametrize(
    "params", [{"id": 7}, {"id": None}, {"id": [1]}, {"id": {}}, {"id": True}, {}, {"id": "1"}]
)
def test_a_cancellation_of_nothing_is_ignored(params: dict[str, Any]) -> None:
    server = Connection(Form.JSON)
    (waiting,) = talk(server, request(5))
    assert talk(server, {"jsonrpc": "2.0", "method": "rpc.cancel", "params": params}) == []
    assert (server.ignored_cancels, waiting.cancelled) == (1, False)
    assert server.take_outbox() == b""


def test_the_requests_of_another_connection_cannot_be_hit() -> None:
    one, other = Connection(Form.JSON), Connection(Form.JSON)
    (mine,) = talk(one, request(1))
    talk(other, *(cancel(n) for n in range(100)))
    assert not mine.cancelled
    assert other.ignored_cancels == 100


def test_an_id_may_be_used_again_after_its_cancellation() -> None:
    server = Connection(Form.JSON)
    (first,) = talk(server, request(1))
    talk(server, cancel(1))
    (second,) = talk(server, request(1))
    assert (first.cancelled, second.cancelled) == (True, False)
    assert server.reply(first, EMPTY_BODY) == b""
    assert json.loads(server.reply(second, EMPTY_BODY))["id"] == 1
    assert server.outstanding == 0


def test_of_two_requests_with_one_id_the_first_is_cancelled_and_both_are_counted() -> None:
    server = Connection(Form.JSON)
    first, second = talk(server, request(1), request(1))
    talk(server, cancel(1))
    assert (first.cancelled, second.cancelled) == (True, False)
    assert server.reply(second, EMPTY_BODY) != b""
    assert server.fail(first, PlatformError("failed")) == b""
    assert server.outstanding == 0


def test_a_batch_is_answered_without_its_cancelled_requests() -> None:
    server = Connection(Form.JSON)
    first, second = talk(server, [request(1), request(2)])
    assert server.reply(first, EMPTY_BODY) == b""
    talk(server, cancel(2))
    assert [a["id"] for a in json.loads(server.reply(second, EMPTY_BODY))] == [1]
    third, fourth = talk(server, [request(3), request(4)])
    talk(server, cancel(3), cancel(4))
    assert server.reply(third, EMPTY_BODY) == server.reply(fourth, EMPTY_BODY) == b""
    assert server.reply(fourth, EMPTY_BODY) == b""
    assert server.outstanding == 0


def test_a_batch_cancelled_at_once_has_no_answer() -> None:
    server = Connection(Form.JSON)
    assert talk(server, [request(1), request(2), cancel(1), cancel(2)]) == []
    assert server.take_outbox() == b""
    assert server.outstanding == 0


def test_cancelling_buys_no_more_work_at_a_time() -> None:
    """Who asks and cancels again and again is refused when so many are still worked on."""
    server = Connection(Form.JSON)
    accepted = 0
    for number in range(3 * OUTSTANDING_REQUESTS_MAX):
        accepted += len(talk(server, request(number)))
        talk(server, cancel(number))
    assert accepted == OUTSTANDING_REQUESTS_MAX
    assert server.refused_requests == 2 * OUTSTANDING_REQUESTS_MAX


def test_who_fails_at_a_cancellation_harms_nobody_else() -> None:
    server = Connection(Form.JSON)
    first, second = talk(server, request(1), request(2))
    heard: list[int] = []

    def broken() -> None:
        raise ValueError

    first.on_cancel, second.on_cancel = broken, lambda: heard.append(2)
    talk(server, cancel(1), cancel(2))
    assert heard == [2]


# -- tasks of our own agents -----------------------------------------------------------------------


@pytest.fixture
def slow() -> Iterator[Method[Params, Nothing]]:
    declared = method(9_120, "test.slow", Params, Nothing)
    yield declared
    del BY_NAME["test.slow"], BY_NUMBER[9_120]


class Agent:
    """An agent with one handler that never comes to an end by itself."""

    def __init__(self, maker: Pairs, nursery: trio.Nursery, slow: Any, connected: bool) -> None:
        self.begun = self.cancelled = 0
        self.dispatcher = Dispatcher(nursery, SystemClock(), on_bug=lambda _m, _e: None)
        self.dispatcher.task(slow, self.work, while_connected=connected)
        self.theirs, self.ours = maker.join(_nobody, self.dispatcher)

    async def work(self, _params: Params, _context: Context) -> Nothing:
        self.begun += 1
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled += 1
            raise


def _nobody(peer: Peer, request: Request) -> None:
    peer.fail(request, PlatformError("no-such-method"))


@pytest.mark.parametrize("connected", [True, False])
async def test_cancelling_the_caller_ends_the_handler(slow: Any, connected: bool) -> None:
    async with trio.open_nursery() as nursery, pairs() as maker:
        agent = Agent(maker, nursery, slow, connected)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as callers:
                callers.start_soon(agent.theirs.call, slow, Params(timeout=60.0))
                await trio.testing.wait_all_tasks_blocked()
                assert agent.begun == 1
                scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert agent.cancelled == 1
        assert agent.ours.connection.outstanding == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("connected", "cancelled"), [(True, 1), (False, 0)])
async def test_the_end_of_the_connection_ends_only_who_waits_for_the_peer(
    slow: Any, connected: bool, cancelled: int
) -> None:
    async with trio.open_nursery() as nursery, pairs() as maker:
        agent = Agent(maker, nursery, slow, connected)
        agent.theirs.send_request(
            slow.name, codec.pack(Params(timeout=60.0)), lambda _: None, timeout_s=60.0
        )
        await trio.testing.wait_all_tasks_blocked()
        agent.theirs.close()
        await trio.testing.wait_all_tasks_blocked()
        assert (agent.begun, agent.cancelled) == (1, cancelled)
        nursery.cancel_scope.cancel()


async def test_a_request_cancelled_in_the_same_packet_starts_no_task(slow: Any) -> None:
    async with trio.open_nursery() as nursery, pairs() as maker:
        agent = Agent(maker, nursery, slow, False)
        identity = agent.theirs.send_request(
            slow.name, codec.pack(Params(timeout=60.0)), lambda _: None, timeout_s=60.0
        )
        assert identity is not None
        agent.theirs.abandon(identity)
        await trio.testing.wait_all_tasks_blocked()
        assert (agent.begun, agent.ours.connection.outstanding) == (0, 0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", FORMS)
def test_counters_return_to_zero_whatever_happens(form: Form, seed: int) -> None:
    """10,000 random steps of both sides; each request has exactly one outcome."""
    chance = random.Random(seed)
    served = Served(form)
    waiting: list[int] = []
    asked = 0
    kept: list[bytes] = []
    for _ in range(10_000):
        step = chance.randrange(4)
        if step == 0 and served.client.waiting < 50:
            waiting.append(served.ask())
            asked += 1
        elif step == 1 and waiting:
            kept.append(served.client.abandon(waiting.pop(chance.randrange(len(waiting)))))
        elif step == 2 and served.requests:
            done = served.requests.pop(chance.randrange(len(served.requests)))
            served.client.receive(served.server.reply(done, EMPTY_BODY))
        elif step == 3 and kept:
            served.hand_over(kept.pop(0))
    for done in served.requests:
        served.client.receive(served.server.reply(done, EMPTY_BODY))
    served.hand_over(b"".join(kept))
    assert served.server.outstanding == served.client.waiting == 0
    assert served.server._theirs == {}
    assert len(served.answers) == asked
    assert {"answered", "cancelled"} == set(served.answers)
