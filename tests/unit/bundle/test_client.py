"""A bundle comes from whoever has it, whole and right, or not at all."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle import files, messages
from paas.bundle.placement import ranked


async def error_of(site: Any, digest: str, **changes: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await site.bundles.ensure(digest, **changes)
    return caught.value


async def test_a_bundle_is_fetched_from_the_node_that_has_it(cluster: Any, content: bytes) -> None:
    one, two, three = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    digest = three.put(content)
    await one.bundles.ensure(digest)
    assert one.store.get(digest) == content
    assert not two.has(content)
    assert one.asked.count("n3:fetch") == 7
    assert os.listdir(one.store.incoming) == []


async def test_what_is_here_is_not_fetched(cluster: Any, content: bytes) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = one.put(content)
    two.put(content)
    await one.bundles.ensure(digest)
    assert one.asked == []


async def test_several_callers_share_one_fetch(cluster: Any, content: bytes) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one.bundles.ensure, digest)
    assert one.has(content)
    assert one.asked.count("n2:fetch") == 7


async def test_a_fetch_goes_on_when_the_one_who_asked_has_gone(
    cluster: Any, content: bytes
) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    with trio.move_on_after(0):
        await one.bundles.ensure(digest)
    error = await error_of(one, digest, timeout_s=0)
    assert error.code == "not-available"
    assert digest in error.message
    await one.bundles.ensure(digest)
    assert one.asked.count("n2:fetch") == 7


async def test_when_a_node_dies_midway_the_next_goes_on_where_it_stopped(
    cluster: Any, content: bytes
) -> None:
    one, two, three = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    digest = two.put(content)
    three.put(content)
    first, second = ranked(digest, ["n2", "n3"])
    pieces = 0

    def die_after_three(piece: Any) -> Any:
        nonlocal pieces
        pieces += 1
        if pieces <= 3:
            return piece
        cluster.cut(first)
        return PlatformError("unknown-outcome")

    cluster.intercept(first, "bundle.fetch", die_after_three)
    await one.bundles.ensure(digest)
    assert one.store.get(digest) == content
    assert one.asked.count(f"{first}:fetch") == 4
    assert one.asked.count(f"{second}:fetch") == 4, "only what was missing"


async def test_a_node_that_comes_back_midway_is_asked_for_the_rest(
    cluster: Any, content: bytes
) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    failures = iter([False, False, True, False, True, *[False] * 99])
    cluster.intercept(
        "n2",
        "bundle.fetch",
        lambda piece: PlatformError("timeout") if next(failures) else piece,
    )
    await one.bundles.ensure(digest)
    assert one.store.get(digest) == content
    assert one.asked.count("n2:fetch") == 9


async def test_a_liar_is_reported_and_not_asked_again(cluster: Any, content: bytes) -> None:
    one, two, three = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    digest = two.put(content)
    three.put(content)
    liar, honest = ranked(digest, ["n2", "n3"])
    cluster.intercept(liar, "bundle.fetch", lambda p: replace(p, data=b"\0" * len(p.data)))
    await one.bundles.ensure(digest)
    assert one.store.get(digest) == content
    assert len(one.troubles) == 1
    assert liar in one.troubles[0]
    assert digest in one.troubles[0]
    one.store.delete(digest)
    one.asked.clear()
    await one.bundles.ensure(digest)
    assert set(one.asked) == {f"{honest}:fetch"}


@pytest.mark.parametrize("change", [{"data": b"short"}, {"size": 10}, {"data": b""}])
async def test_pieces_of_a_wrong_length_are_a_lie(
    cluster: Any, content: bytes, change: dict[str, Any]
) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    cluster.intercept("n2", "bundle.fetch", lambda piece: replace(piece, **change))
    assert (await error_of(one, digest)).code == "not-available"
    assert len(one.troubles) == 1
    assert one.asked == ["n2:fetch"]
    assert os.listdir(one.store.incoming) == []


async def test_of_two_that_gave_a_part_the_liar_is_found(cluster: Any, content: bytes) -> None:
    one, two, three = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    digest = two.put(content)
    three.put(content)
    liar, honest = ranked(digest, ["n2", "n3"])
    pieces = 0

    def lie_then_fail(piece: Any) -> Any:
        nonlocal pieces
        pieces += 1
        if pieces == 4:
            return PlatformError("timeout")
        return replace(piece, data=b"\0" * len(piece.data))

    cluster.intercept(liar, "bundle.fetch", lie_then_fail)
    await one.bundles.ensure(digest)
    assert one.store.get(digest) == content
    assert [liar in trouble for trouble in one.troubles] == [True]
    assert not any(honest in trouble for trouble in one.troubles)


async def test_a_bundle_that_nobody_has_is_named(cluster: Any, content: bytes) -> None:
    one, _, _ = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    digest = cluster.know(content)
    error = await error_of(one, digest)
    assert error.code == "not-available"
    assert digest in error.message
    assert one.asked == [f"{n}:fetch" for n in ranked(digest, ["n2", "n3"])]
    assert one.troubles == []


async def test_a_bundle_that_the_log_does_not_know_is_not_looked_for(cluster: Any) -> None:
    one, _ = [await cluster.add(name) for name in ("n1", "n2")]
    assert (await error_of(one, digests.of(b"?"))).code == "no-such-bundle"
    assert one.asked == []


async def test_a_full_disk_is_told_and_tried_again_later(
    cluster: Any, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", full)
        assert (await error_of(one, digest)).code == "storage-full"
    assert os.listdir(one.store.incoming) == []
    assert one.troubles == []
    await one.bundles.ensure(digest)
    assert one.has(content)


async def test_removing_a_bundle_ends_its_fetch(cluster: Any, content: bytes) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    removed = trio.Event()

    def remove(piece: Any) -> Any:
        del cluster.state.bundles[digest]
        one.bundles._copies.forget(digest)
        removed.set()
        return piece

    cluster.intercept("n2", "bundle.fetch", remove)
    error = await error_of(one, digest)
    assert removed.is_set()
    assert (error.code, digest in error.message) == ("no-such-bundle", True)
    assert not one.has(content)
    assert os.listdir(one.store.incoming) == []


async def test_a_torn_fetch_of_a_killed_hub_is_begun_anew(cluster: Any, content: bytes) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    torn = one.store.begin()
    torn.write(content[:1_000_000])
    torn._descriptor = -1  # the process is gone, its file is not
    assert len(os.listdir(one.store.incoming)) == 1
    await one.stop()
    one.open()
    await one.start()
    assert os.listdir(one.store.incoming) == []
    await one.bundles.ensure(digest)
    assert one.store.get(digest) == content


async def test_a_damaged_copy_is_replaced_when_there_is_doubt(cluster: Any, content: bytes) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = one.put(content)
    two.put(content)
    path = one.store.path(digest)
    path.chmod(0o644)
    path.write_bytes(content[:-1] + b"?")
    await one.bundles.ensure(digest)
    assert one.asked == []
    await one.bundles.ensure(digest, doubt=True)
    assert one.store.get(digest) == content
    assert "damaged" in one.troubles[0]


async def test_a_damaged_copy_of_another_node_spoils_nothing(cluster: Any, content: bytes) -> None:
    one, two, three = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    digest = two.put(content)
    three.put(content)
    bad = cluster.sites[ranked(digest, ["n2", "n3"])[0]]
    path = bad.store.path(digest)
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    await one.bundles.ensure(digest)
    assert one.store.get(digest) == content
    assert bad.name in one.troubles[0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"offset": -1}, "offset"),
        ({"limit": 0}, "limit"),
        ({"limit": (256 << 10) + 1}, "limit"),
        ({"digest": "../../etc/passwd"}, "digest"),
    ],
)
async def test_what_another_node_asks_is_checked(
    cluster: Any, content: bytes, changes: dict[str, Any], field: str
) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    ask = replace(messages.Fetch(digest=digest, offset=0, limit=1), **changes)
    with pytest.raises(PlatformError) as caught:
        await one.links["n2"].call(messages.FETCH, ask, timeout_s=5)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)


async def test_another_node_says_whether_it_has_a_bundle(cluster: Any, content: bytes) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = cluster.know(content)
    has = messages.Has(digest=digest)
    assert not (await one.links["n2"].call(messages.HAS, has, timeout_s=5)).present
    two.put(content)
    found = await one.links["n2"].call(messages.HAS, has, timeout_s=5)
    assert (found.present, found.size) == (True, len(content))
