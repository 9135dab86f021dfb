"""Copies: before an upload is acknowledged, for good, and none too few removed."""

# ruff: noqa: ASYNC110

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle import limits, messages
from paas.bundle.placement import keepers
from paas.bundle.state import BundleForgotten, BundleState
from paas.bundle.store import BlobStore
from paas.controller.bundles import PEER_POLICY, Bundles
from paas.testing.controlled_node import SeededEntropy, TrioClock
from paas.testing.fake_log import FakeLog

NAMES = ("n1", "n2", "n3", "n4", "n5")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done from time to time is done at once."""
    monkeypatch.setattr(limits, "BALANCE_PERIOD_S", 0.02)
    monkeypatch.setattr(limits, "BALANCE_PAUSE_S", 0.0)


def holders(cluster: Any, digest: str) -> set[str]:
    return {name for name, site in cluster.sites.items() if site.store.has(digest)}


async def until_held(cluster: Any, digest: str, wanted: set[str]) -> None:
    with trio.fail_after(20):
        while not holders(cluster, digest) >= wanted:
            await trio.sleep(0.05)


@pytest.mark.parametrize(("nodes", "copies"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
async def test_an_upload_is_acknowledged_when_enough_nodes_have_it(
    cluster: Any, nodes: int, copies: int
) -> None:
    sites = [await cluster.add(name) for name in NAMES[:nodes]]
    at_commit: list[int] = []
    cluster.log.subscribe(
        lambda _i, events: at_commit.extend(
            len(holders(cluster, e.digest)) for e in events if hasattr(e, "digest")
        )
    )
    digest = await sites[0].push()
    assert at_commit == [copies]
    assert digest in cluster.state.bundles


async def test_a_node_that_does_not_take_it_is_made_up_for_by_another(cluster: Any) -> None:
    one, *_ = [await cluster.add(name) for name in NAMES[:3]]
    for name in ("n2", "n3"):
        cluster.intercept(name, "bundle.keep", lambda done: done)
    refused: list[str] = []

    def refuse_once(done: Any) -> Any:
        if refused:
            return done
        refused.append("once")
        return PlatformError("storage-full")

    for name in ("n2", "n3"):
        cluster.intercept(name, "bundle.keep", refuse_once)
    digest = await one.push()
    assert digest in cluster.state.bundles
    assert sorted(a for a in one.asked if "keep" in a) == ["n2:keep", "n3:keep"]


async def test_an_upload_that_too_few_take_is_refused_and_can_be_repeated(cluster: Any) -> None:
    one, two = [await cluster.add(name) for name in NAMES[:2]]
    link = one.links["n2"]
    cluster.intercept("n2", "bundle.keep", lambda _: PlatformError("storage-full"))
    with pytest.raises(PlatformError) as caught:
        await one.push()
    assert caught.value.code == "not-available"
    assert "n2: " in caught.value.message
    assert cluster.state.bundles == {}
    one.links["n2"] = link
    assert await one.push("1.0.1") in cluster.state.bundles
    assert two.store.stored() != []


async def test_when_the_others_vanish_the_one_that_is_left_decides(cluster: Any) -> None:
    one, _ = [await cluster.add(name) for name in NAMES[:2]]

    def vanish(_: Any) -> Any:
        cluster.cut("n2")
        return PlatformError("unknown-outcome")

    cluster.intercept("n2", "bundle.keep", vanish)
    assert await one.push() in cluster.state.bundles


async def test_a_bundle_survives_the_node_it_was_pushed_to(cluster: Any) -> None:
    one, two, three = [await cluster.add(name) for name in NAMES[:3]]
    digest = await one.push()
    cluster.cut("n1")
    await one.stop()
    for site in (two, three):
        await site.bundles.ensure(digest)
    assert holders(cluster, digest) == {"n1", "n2", "n3"}


async def test_in_the_end_the_keepers_have_it_and_no_others_fetch(
    cluster: Any, content: bytes, quick: None
) -> None:
    sites = [await cluster.add(name) for name in NAMES]
    digest = digests.of(content)
    wanted = set(keepers(digest, NAMES))
    source = next(s for s in sites if s.name not in wanted)
    source.put(content)
    cluster.wake()
    await until_held(cluster, digest, wanted)
    await trio.sleep(0.3)
    assert holders(cluster, digest) == wanted | {source.name}


async def test_when_a_keeper_is_lost_another_takes_its_place(
    cluster: Any, content: bytes, quick: None
) -> None:
    sites = [await cluster.add(name) for name in NAMES]
    digest = sites[0].put(content)
    cluster.wake()
    await until_held(cluster, digest, set(keepers(digest, NAMES)))
    lost = next(n for n in keepers(digest, NAMES) if n != "n1")
    cluster.cut(lost)
    left = [n for n in NAMES if n != lost]
    await until_held(cluster, digest, set(keepers(digest, left)))
    assert len(holders(cluster, digest) - {lost}) >= limits.COPIES


async def test_a_keeper_tries_again_when_nobody_had_it(
    cluster: Any, content: bytes, quick: None
) -> None:
    one, two = [await cluster.add(name) for name in NAMES[:2]]
    digest = cluster.know(content)
    cluster.wake()
    with trio.fail_after(20):
        while not one.troubles:
            await trio.sleep(0.02)
    await trio.sleep(0.3)
    assert len(one.troubles) == 1, "told once"
    assert digest in one.troubles[0]
    two.store.put([content], digest)
    await until_held(cluster, digest, {"n1", "n2"})


async def test_a_type_that_waited_for_its_bundle_holds_it_then(
    cluster: Any, content: bytes
) -> None:
    one, two = [await cluster.add(name) for name in NAMES[:2]]
    digest = two.put(content)
    one.users[digest] = ["greeter@1.0.0"]
    await one.bundles.ensure(digest)
    assert one.store.references(digests.parse(digest)) == ["greeter@1.0.0"]


async def test_what_the_log_forgets_is_removed_everywhere(cluster: Any, quick: None) -> None:
    sites = [await cluster.add(name) for name in NAMES[:3]]
    digest = await sites[0].push()
    await until_held(cluster, digest, set(NAMES[:3]))
    await cluster.log.propose(BundleForgotten(digest=digest))
    with trio.fail_after(20):
        while holders(cluster, digest):
            await trio.sleep(0.1)
    assert all(site.troubles == [] for site in sites)


async def test_a_bundle_removed_and_pushed_again_stays(cluster: Any, quick: None) -> None:
    one, two = [await cluster.add(name) for name in NAMES[:2]]
    digest = await one.push()
    content = one.store.get(digest)
    two.bundles._copies.forget(digest)
    del cluster.state.bundles[digest]
    keep = messages.Keep(digest=digest, size=len(content), holder="n1")
    await one.links["n2"].call(messages.KEEP, keep, timeout_s=5)
    await trio.sleep(0.3)
    assert two.store.has(digest)


async def test_an_unknown_blob_is_removed_only_after_long_and_by_one_that_has_caught_up(
    cluster: Any, content: bytes, mock_clock: Any
) -> None:
    async def later(seconds: float) -> None:
        for _ in range(20):
            mock_clock.jump(seconds / 20)
            await trio.to_thread.run_sync(time.sleep, 0.01)  # what runs in threads ends meanwhile

    one, two = [await cluster.add(name) for name in NAMES[:2]]
    one.settled = False
    for site in (one, two):
        site.store.put([content], digests.of(content))
        site.bundles.collect()
    await later(limits.COLLECT_AFTER_S / 2)
    assert one.has(content)
    assert two.has(content)
    await later(limits.COLLECT_AFTER_S)
    assert one.has(content), "it has not caught up with the log"
    assert not two.has(content)
    one.settled = True
    await later(limits.COLLECT_AFTER_S / 2)
    cluster.know(content)
    await later(limits.COLLECT_AFTER_S)
    assert one.has(content), "the log came to know it"


async def test_a_node_alone_is_as_before(tmp_path: Path, content: bytes) -> None:
    state = BundleState()
    log = FakeLog([state], TrioClock(), SeededEntropy())

    class Nobody:
        def types_of(self, _digest: str) -> list[str]:
            return []

    store = BlobStore(tmp_path)
    bundles = Bundles(store, state, log, Nobody())
    await bundles.ensure(digests.of(content))  # whoever opens it says that it is missing
    store.put([content], digests.of(content))
    bundles.collect()
    assert not store.has(digests.of(content))


async def test_every_method_between_nodes_has_a_rule(cluster: Any) -> None:
    one = await cluster.add("n1", run=False)
    before = {m.name for m in (messages.HAS, messages.FETCH, messages.KEEP)}
    assert before <= one.dispatcher.methods()
    assert PEER_POLICY.keys() == before
    assert all(rule.roles == {"hub"} for rule in PEER_POLICY.values())


async def test_a_keep_of_an_impossible_size_is_refused(cluster: Any) -> None:
    one, _ = [await cluster.add(name) for name in NAMES[:2]]
    for size in (0, limits.BUNDLE_BYTES_MAX + 1):
        keep = messages.Keep(digest=digests.of(os.urandom(8)), size=size)
        with pytest.raises(PlatformError) as caught:
            await one.links["n2"].call(messages.KEEP, keep, timeout_s=5)
        assert caught.value.data["field"] == "size"
