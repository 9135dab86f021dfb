"""The router: targets, selectors, admission, order, and one outcome for every call."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import INVOKE, Invoke, InvokeResult
from paas.hub import limits
from paas.hub.messages import CALL, CAST, Call, CallResult, Cast
from paas.hub.router import Router
from paas.real.clock import SystemClock
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import decode

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-00"


class Everyone:
    """A directory of components that are called by their names."""

    def __init__(self) -> None:
        self.groups: dict[str, list[str]] = {}
        self.states: dict[str, str] = {}

    def resolve(self, target: str) -> str:
        if target not in self.states:
            raise PlatformError("no-such-target")
        return target

    def members(self, group: str) -> list[str]:
        return self.groups.get(group, [])

    def state(self, component: str) -> str:
        return self.states[component]

    def node(self, component: str) -> str:
        return ""


class World:
    """A router with callers and components around it."""

    def __init__(self, maker: Pairs) -> None:
        self.maker = maker
        self.directory = Everyone()
        self.router = Router(self.directory, SystemClock())
        self.seen: dict[str, list[Invoke]] = {}

    def component(
        self, name: str, answer: Callable[[Peer, Request, Invoke], None] | None = None
    ) -> Peer:
        """An attached, ready component; by default it answers with its name and its inputs."""

        def on_request(peer: Peer, request: Request) -> None:
            assert request.method == INVOKE.name
            invoke = decode(request.params, Invoke)
            self.seen.setdefault(name, []).append(invoke)
            if answer is not None:
                answer(peer, request, invoke)
            else:
                peer.reply(request, InvokeResult(outputs=invoke.inputs))

        ours, theirs = self.maker.join(_nobody, on_request)
        self.directory.states[name] = "available"
        self.router.attach(name, ours, ready=True)
        return theirs

    def caller(self) -> Peer:
        def on_request(peer: Peer, request: Request) -> None:
            try:
                (self.router.call if request.method == CALL.name else self.router.cast)(
                    peer, request
                )
            except PlatformError as exc:
                peer.fail(request, exc)

        ours, theirs = self.maker.join(on_request, _nobody)
        ours.info["component"] = "the-caller"
        return theirs


def _nobody(_peer: Peer, request: Request) -> None:
    raise AssertionError(request)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with pairs() as maker:
        yield World(maker)


def call(target: str, inputs: Any = None, **more: Any) -> Call:
    import msgspec

    return Call(target=target, operation="op", inputs=msgspec.Raw(codec.pack(inputs)), **more)


async def failure(caller: Peer, params: Call, timeout_s: float = 5.0) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await caller.call(CALL, params, timeout_s=timeout_s)
    return caught.value


async def test_a_call_reaches_its_target_with_sender_and_deadline(world: World) -> None:
    world.component("a")
    result = await world.caller().call(CALL, call("a", {"x": [1, "ü"]}, trace=TRACE))
    assert codec.unpack(bytes(result.outputs)) == {"x": [1, "ü"]}  # type: ignore[arg-type]
    assert result.component == "a"
    (seen,) = world.seen["a"]
    assert (seen.operation, seen.from_, seen.trace) == ("op", "the-caller", TRACE)
    assert seen.deadline is not None


async def test_binary_attachments_pass_unchanged(world: World) -> None:
    import msgspec

    def attach(peer: Peer, request: Request, invoke: Invoke) -> None:
        peer.reply(request, InvokeResult(attachments=invoke.attachments))

    world.component("a", attach)
    blob = [{"name": "n", "type": "t", "data": bytes(range(256))}]
    params = call("a", attachments=msgspec.Raw(codec.pack(blob)))
    result = await world.caller().call(CALL, params)
    assert codec.unpack(bytes(result.attachments)) == blob  # type: ignore[arg-type]


async def test_any_takes_ready_members_in_turn(world: World) -> None:
    for name in "abc":
        world.component(name)
    world.directory.groups["g"] = ["a", "b", "c", "gone"]
    world.router.set_ready("b", False)
    caller = world.caller()
    chosen = [(await caller.call(CALL, call("group:g"))).component for _ in range(6)]
    assert chosen == ["a", "c"] * 3


async def test_all_gathers_answers_and_errors(world: World) -> None:
    def refuse(peer: Peer, request: Request, _invoke: Invoke) -> None:
        peer.fail(request, PlatformError("failed", "no mood"))

    world.component("a")
    world.component("b", refuse)
    world.component("c", lambda *_: None)
    world.directory.groups["g"] = ["a", "b", "c"]
    result = await world.caller().call(CALL, call("group:g", 7, selector="all", timeout=0.3))
    replies = {r.component: r for r in result.replies}  # type: ignore[union-attr]
    assert codec.unpack(bytes(replies["a"].outputs)) == 7  # type: ignore[arg-type]
    assert replies["b"].error["data"]["code"] == "failed"  # type: ignore[index]
    assert replies["c"].error["data"]["code"] == "timeout"  # type: ignore[index]


async def test_a_cast_is_handed_over_once_to_each(world: World) -> None:
    for name in "ab":
        world.component(name)
    world.directory.groups["g"] = ["a", "b"]
    caller = world.caller()
    import msgspec

    def cast(selector: str) -> Cast:
        return Cast(
            target="group:g",
            operation="op",
            inputs=msgspec.Raw(codec.pack(1)),
            selector=selector,
        )

    assert (await caller.call(CAST, cast("all"))).accepted == 2
    assert (await caller.call(CAST, cast("any"))).accepted == 1
    await trio.testing.wait_all_tasks_blocked()
    assert sum(len(s) for s in world.seen.values()) == 3
    assert all(i.oneway for s in world.seen.values() for i in s)


@pytest.mark.parametrize(
    ("target", "selector", "code"),
    [
        ("nobody", "any", "no-such-target"),
        ("group:empty", "any", "no-such-target"),
        ("group:empty", "all", "no-such-target"),
        ("starting", "any", "not-available"),
        ("group:starters", "any", "not-available"),
        ("group:starters", "all", "not-available"),
        ("a", "nearby", "invalid"),
    ],
)
async def test_what_cannot_be_delivered_is_the_callers_error(
    world: World, target: str, selector: str, code: str
) -> None:
    world.component("a")
    world.component("starting")
    world.router.set_ready("starting", False)
    world.directory.states["starting"] = "initializing"
    world.directory.groups["starters"] = ["starting"]
    assert (await failure(world.caller(), call(target, selector=selector))).code == code


async def test_an_expired_call_never_arrives(world: World) -> None:
    world.component("a")
    error = await failure(world.caller(), call("a", deadline=1.0))
    assert error.code == "timeout"
    assert "a" not in world.seen


async def test_silence_is_timeout_and_the_late_answer_is_dropped(world: World) -> None:
    kept: list[tuple[Peer, Request]] = []
    world.component("a", lambda peer, request, _: kept.append((peer, request)))
    caller = world.caller()
    assert (await failure(caller, call("a", timeout=0.1))).code == "timeout"
    peer, request = kept[0]
    peer.reply(request, InvokeResult())
    await trio.testing.wait_all_tasks_blocked()
    assert caller.connection.dropped_answers == 0


async def test_a_connection_that_breaks_leaves_the_outcome_unknown(world: World) -> None:
    world.component("a", lambda peer, _request, _invoke: peer.close())
    assert (await failure(world.caller(), call("a"))).code == "unknown-outcome"


async def test_a_full_mailbox_refuses(world: World) -> None:
    world.component("a", lambda *_: None)
    caller = world.caller()
    caller2 = world.caller()
    errors: list[str] = []

    def note(value: bytes | PlatformError) -> None:
        assert isinstance(value, PlatformError)
        errors.append(value.code)

    body = codec.pack(call("a", timeout=30.0))
    for number in range(limits.INVOCATIONS_MAX + 5):
        who = caller if number % 2 else caller2
        who.send_request(CALL.name, body, note, timeout_s=30.0)
    while len(errors) < 5:
        await trio.testing.wait_all_tasks_blocked()
    assert errors == ["limit-exceeded"] * 5
    assert world.router.refused == 5


async def test_messages_between_two_arrive_in_order(world: World) -> None:
    world.component("a")
    caller = world.caller()
    done: list[bytes | PlatformError] = []
    for number in range(200):
        caller.send_request(CALL.name, codec.pack(call("a", number)), done.append, timeout_s=9.0)
    while len(done) < 200:
        await trio.testing.wait_all_tasks_blocked()
    assert [codec.unpack(bytes(i.inputs)) for i in world.seen["a"]] == list(range(200))
    outputs = [decode(d, CallResult).outputs for d in done if isinstance(d, bytes)]
    assert [codec.unpack(bytes(o)) for o in outputs] == list(range(200))  # type: ignore[arg-type]


async def test_a_newer_attachment_takes_over(world: World) -> None:
    first = world.component("a")
    world.component("a")
    await trio.testing.wait_all_tasks_blocked()
    assert first.closed
    assert (await world.caller().call(CALL, call("a"))).component == "a"


async def test_detaching_an_old_connection_changes_nothing(world: World) -> None:
    world.component("a")
    old = world.router.peer("a")
    assert old is not None
    world.component("a")
    assert world.router.detach("a", old) is False
    assert world.router.is_ready("a")
