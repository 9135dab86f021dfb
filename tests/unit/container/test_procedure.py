"""Hooks run forward and backward, all of them, whatever fails."""

from __future__ import annotations

import pytest
import trio

from paas.container import procedure
from paas.container.hooks.contract import Context, FailHook, Hook, InjectedFailure
from paas.container.journal import Record

RECORD = Record(component="a" * 40, incarnation=1, phase="preparing", boot="b", since_ms=1)


class Note:
    """A hook that writes down what happens to it."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self._story = story

    async def prepare(self, context: Context) -> None:
        self._story.append(f"+{self.name}")

    async def destroy(self, context: Context) -> None:
        self._story.append(f"-{self.name}")


def context() -> Context:
    return Context(RECORD, lambda record: None)


def hooks(story: list[str]) -> list[Hook]:
    return [Note(name, story) for name in "abc"]


async def test_prepare_is_forward_and_measured() -> None:
    story: list[str] = []
    given = context()
    await procedure.prepare(hooks(story), given, trio.current_time)
    assert story == ["+a", "+b", "+c"]
    assert list(given.timings_ms) == ["a", "b", "c"]


async def test_a_failed_prepare_destroys_all_backward() -> None:
    story: list[str] = []
    listed = hooks(story)
    listed[1] = FailHook(listed[1], "prepare, before")
    with pytest.raises(InjectedFailure):
        await procedure.prepare(listed, context(), trio.current_time)
    assert story == ["+a", "-c", "-b", "-a"]


async def test_destroy_runs_all_and_tells_all_errors() -> None:
    story: list[str] = []
    listed = hooks(story)
    listed[0] = FailHook(listed[0], "destroy, before")
    listed[2] = FailHook(listed[2], "destroy, after")
    with pytest.raises(procedure.DestroyFailed) as caught:
        await procedure.destroy(listed, context())
    assert story == ["-c", "-b"]
    assert [name for name, _ in caught.value.errors] == ["c", "a"]
    await procedure.destroy(listed, context())
    assert story == ["-c", "-b", "-c", "-b", "-a"]


async def test_a_failure_while_undoing_is_told_with_the_cause() -> None:
    listed = hooks([])
    listed[2] = FailHook(listed[2], "prepare, after")
    listed[0] = FailHook(listed[0], "destroy, before")
    with pytest.raises(InjectedFailure) as caught:
        await procedure.prepare(listed, context(), trio.current_time)
    assert isinstance(caught.value.__cause__, procedure.DestroyFailed)
    assert "could be removed" not in str(caught.value)
    assert any("not everything could be removed" in n for n in caught.value.__notes__)


async def test_a_cancelled_prepare_is_undone_in_full() -> None:
    story: list[str] = []

    class Stuck(Note):
        async def prepare(self, context: Context) -> None:
            await trio.sleep_forever()

    with trio.move_on_after(0.01):
        await procedure.prepare([*hooks(story), Stuck("d", story)], context(), trio.current_time)
    assert story == ["+a", "+b", "+c", "-d", "-c", "-b", "-a"]


async def test_a_hook_that_takes_too_long_has_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    story: list[str] = []

    class Slow(Note):
        async def prepare(self, context: Context) -> None:
            await trio.sleep(3_600)

    with pytest.raises(Exception, match="took too long") as caught:
        await procedure.prepare([Slow("slow", story)], context(), trio.current_time)
    assert getattr(caught.value, "code", "") == "timeout"
    assert story == ["-slow"]


def test_a_fail_hook_knows_its_phases() -> None:
    with pytest.raises(ValueError):
        FailHook(Note("a", []), "later")
