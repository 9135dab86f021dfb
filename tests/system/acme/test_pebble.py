"""Certificates from a real ACME authority, which refuses nonces at random."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio

from paas.gateway.acme import limits
from paas.gateway.acme.store import Store, examine
from paas.gateway.tls.server import Certificates
from tests.system.acme.pebble_world import pebble


async def test_a_certificate_is_ordered_kept_and_shown(tmp_path: Path) -> None:
    names = ("shop.example.org", "www.shop.example.org")
    async with pebble(tmp_path) as world:
        acme = world.acme(names)
        wait_s = await acme.once()
        assert acme.troubles() == {}
        assert (acme.ordered, world.changes) == (1, 1)
        assert 0 < wait_s <= limits.CHECK_S
        assert await acme.once() > 0
        assert acme.ordered == 1, "what is not due is not ordered"
    assert len(world.web.shown) == 2
    assert world.web.texts == {}, "challenges are taken away"
    folder = tmp_path / "a" / "certificates"
    (file,) = folder.iterdir()
    kept = examine(file.read_bytes(), names, time.time())
    assert kept.end_s > time.time() + 86_400
    for path in (file, tmp_path / "a" / "account" / "account.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert os.stat(folder).st_mode & 0o777 == 0o700
    edge = Certificates(folder)
    assert edge.reload()
    assert edge.problems == {}
    edge.context()


async def test_a_wildcard_by_a_record_in_the_dns(tmp_path: Path) -> None:
    async with pebble(tmp_path) as world:
        acme = world.acme(("*.wild.example.org", "wild.example.org"), challenge="dns-01")
        await acme.once()
        assert acme.troubles() == {}
        assert world.names.published == ["_acme-challenge.wild.example.org"] * 2
        assert not any(world.names.texts.values())
        by_http = world.acme(("*.wild.example.org",), folder="b")
        await by_http.once()
        assert "offers no http-01" in by_http.troubles()["*.wild.example.org"]


async def test_half_of_all_nonces_may_be_refused(tmp_path: Path) -> None:
    async with pebble(tmp_path, nonces_refused_percent=50) as world:
        acme = world.acme(("n.example.org",))
        await acme.once()
        assert acme.troubles() == {}
        assert acme._client is not None
        assert acme._client.bad_nonces > 0


async def test_it_is_renewed_before_it_ends_by_the_same_account(tmp_path: Path) -> None:
    async with pebble(tmp_path, nonces_refused_percent=0) as world:
        now = time.time()
        acme = world.acme(("r.example.org",), wall=lambda: now)
        await acme.once()
        store = Store(tmp_path / "a" / "account", tmp_path / "a" / "certificates")
        first = store.certificate(("r.example.org",))
        assert first is not None
        account = acme._client and acme._client._account
        now = first.begin_s + (first.end_s - first.begin_s) * 0.55
        await acme.once()
        assert acme.ordered == 1
        now = first.begin_s + (first.end_s - first.begin_s) * 0.75
        again = world.acme(("r.example.org",), wall=lambda: now)
        await again.once()
        assert again._client is not None
        assert (again.ordered, again._client._account) == (1, account)
        second = store.certificate(("r.example.org",))
        assert second is not None
        assert second.pem != first.pem


async def test_a_challenge_that_fails_leaves_what_is_there(tmp_path: Path) -> None:
    async with pebble(tmp_path) as world:
        acme = world.acme(("f.example.org",))
        await acme.once()
        (file,) = (tmp_path / "a" / "certificates").iterdir()
        before = file.read_bytes()
        world.web.broken = True
        late = time.time() + 86_400 * 365 * 4
        failing = world.acme(("f.example.org",), wall=lambda: late)
        wait_s = await failing.once()
        assert "unauthorized" in failing.troubles()["f.example.org"]
        assert limits.RETRY_FIRST_S / 2 <= wait_s <= limits.CHECK_S
        assert world.web.texts == {}
        assert file.read_bytes() == before


async def test_of_a_group_one_orders_and_the_others_take_it(tmp_path: Path) -> None:
    """Three gateways at the same time: one order; and no two at a time in any case."""
    lock = trio.Lock()

    class OneAtATime:
        def held(self) -> AbstractAsyncContextManager[bool]:
            @asynccontextmanager
            async def hold() -> AsyncIterator[bool]:
                async with lock:
                    yield True

            return hold()

    class Others:
        async def certificate(self, names: tuple[str, ...]) -> bytes | None:
            for folder in ("g0", "g1", "g2"):
                kept = Store(tmp_path / folder, tmp_path / folder / "certificates").certificate(
                    names
                )
                if kept is not None:
                    return kept.pem
            return None

    async with pebble(tmp_path) as world:
        gateways = [
            world.acme(("g.example.org",), folder=f"g{n}", lease=OneAtATime(), peers=Others())
            for n in range(3)
        ]
        async with trio.open_nursery() as nursery:
            for gateway in gateways:
                nursery.start_soon(gateway.once)
        assert sorted(g.ordered for g in gateways) == [0, 0, 1]
        assert sorted(g.taken for g in gateways) == [0, 1, 1]
    files = {(tmp_path / f"g{n}/certificates/g.example.org.pem").read_bytes() for n in range(3)}
    assert len(files) == 1
