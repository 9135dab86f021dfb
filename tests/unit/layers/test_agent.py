"""Images over several nodes: verified before they are kept, copied, fetched, and gone when over."""

# ruff: noqa: ASYNC110

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle import limits as bundle_limits
from paas.bundle.store import BlobStore
from paas.layers import messages
from paas.layers.agent import Images
from paas.layers.policy import POLICY
from paas.layers.state import ImageForgotten, ImageRegistered, ImageState
from paas.oci import documents
from paas.oci.documents import Defaults, Layer
from paas.rpc.dispatch import Context, Dispatcher, check_policy
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.controlled_node import SeededEntropy, TrioClock
from paas.testing.fake_log import FakeLog
from paas.testing.pair import Pairs
from tests.unit.layers.conftest import member, tar


class Site:
    """The images of one node."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.links: dict[str, Any] = {}
        self.users: dict[str, list[str]] = {}
        self.retained: list[list[str]] = []
        self.troubles: list[str] = []
        self.damaged: list[str] = []
        self.store = BlobStore(cluster.directory / name, signed=False)
        self.images = Images(
            self.store,
            cluster.state,
            cluster.log,
            self,
            self,
            bundle_piece=self.bundle_piece,
            node=name,
            peers=self,
            on_trouble=self.troubles.append,
        )
        self.dispatcher = Dispatcher(
            cluster.nursery, TrioClock(), on_bug=lambda _m, exc: cluster.bugs.append(exc)
        )
        self.images.register(self.dispatcher)
        cluster.log.subscribe(self.images.state_changed)

    # what `Images` asks of others
    def types_on(self, base: str) -> list[str]:
        return self.users.get(base, [])

    async def retain(self, chains: Sequence[str]) -> None:
        self.retained.append(list(chains))

    async def check(self, _chain: str) -> tuple[bool, list[str]]:
        return bool(self.damaged), self.damaged

    async def bundle_piece(self, _digest: str, offset: int, limit: int) -> tuple[bytes, int]:
        return b"bundle"[offset : offset + limit], 6

    def peer(self, node: str) -> Any:
        return self.links.get(node)

    def connected(self) -> list[str]:
        return list(self.links)

    # what operators ask
    def context(self, timeout_s: float = 20.0) -> Context:
        return Context(cast(Peer, self), Request(1, "test", b""), timeout_s)

    async def send(self, data: bytes, **more: Any) -> Layer:
        packed = gzip.compress(data, mtime=0)
        layer = Layer(
            digest=more.get("digest", digests.of(packed)),
            size=len(packed),
            diff_id=more.get("diff_id", digests.of(data)),
        )
        begin = messages.BeginBlob(digest=layer.digest, size=layer.size)
        begun = self.images.uploads.begin(begin, self.context())
        if not begun.present:
            piece = messages.AppendBlob(upload=begun.upload, offset=0, data=packed)
            self.images.uploads.append(piece, self.context())
            commit = messages.CommitBlob(
                upload=begun.upload, digest=layer.digest, diff_id=layer.diff_id
            )
            await self.images.uploads.commit(commit, self.context())
        return layer

    async def register(self, name: str, *layers: Layer, **more: Any) -> messages.ImageInfo:
        config = documents.write_config([x.diff_id for x in layers], Defaults(), "amd64", [])
        manifest = documents.write_manifest(config, layers, [documents.LAYER_GZIP] * len(layers))
        params = messages.RegisterImage(name=name, manifest=manifest, config=config, **more)
        return await self.images._register(params, self.context())


class Cluster:
    """Nodes that all reach each other."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.nursery = nursery
        self.directory = directory
        self.state = ImageState()
        self.log = FakeLog([self.state], TrioClock(), SeededEntropy())
        self.sites: dict[str, Site] = {}
        self.bugs: list[Exception] = []
        self._pairs = Pairs(nursery)

    async def add(self, name: str) -> Site:
        site = Site(self, name)
        for other in self.sites.values():
            site.links[other.name], other.links[name] = self._pairs.join(
                site.dispatcher, other.dispatcher
            )
        self.sites[name] = site
        await self.nursery.start(site.images.run)
        return site

    def holders(self, layer: Layer) -> list[str]:
        digest = digests.parse(layer.digest)
        return [name for name, site in self.sites.items() if site.store.has(digest)]


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(bundle_limits, "BALANCE_PERIOD_S", 0.02)
    async with trio.open_nursery() as nursery:
        made = Cluster(nursery, tmp_path)
        yield made
        assert made.bugs == []
        nursery.cancel_scope.cancel()


ONE, TWO = tar(member("one", b"1")), tar(member("two", b"2" * 5_000))


async def until(condition: Any) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.02)


async def test_every_method_has_a_rule(cluster: Cluster) -> None:
    site = await cluster.add("n1")
    check_policy(site.dispatcher.methods(), POLICY)


async def test_an_image_is_known_when_enough_nodes_have_its_layers(cluster: Cluster) -> None:
    sites = [await cluster.add(name) for name in ("n1", "n2", "n3", "n4", "n5")]
    layers = [await sites[0].send(ONE), await sites[0].send(TWO)]
    held: list[int] = []
    cluster.log.subscribe(lambda _i, _e: held.extend(len(cluster.holders(x)) for x in layers))
    info = await sites[0].register("tiny", *layers)
    assert min(held) >= 3
    assert [x.digest for x in info.layers] == [x.digest for x in layers]
    assert sites[4].images._list(messages.ListImages(), sites[4].context()).images == [info]


async def test_a_node_that_lacks_the_layers_fetches_them_for_a_start(cluster: Cluster) -> None:
    sites = [await cluster.add(f"n{i}") for i in range(1, 6)]
    layer = await sites[0].send(TWO)
    await sites[0].register("tiny", layer)
    for site in sites:
        image = await site.images.ensure("tiny")
        assert image.layers == (layer,)
        assert site.store.has(digests.parse(layer.digest))


async def test_a_layer_that_is_damaged_here_is_fetched_anew(cluster: Cluster) -> None:
    one, _ = await cluster.add("n1"), await cluster.add("n2")
    layer = await one.send(TWO)
    await one.register("tiny", layer)
    path = one.store.path(digests.parse(layer.digest))
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    await one.images.ensure("tiny", doubt=True)
    assert digests.of(path.read_bytes()) == layer.digest
    assert any("damaged" in text for text in one.troubles)


async def test_a_start_says_which_image_has_no_layers_anywhere(cluster: Cluster) -> None:
    site = await cluster.add("n1")
    layer = await site.send(ONE)
    await site.register("tiny", layer)
    site.store.path(digests.parse(layer.digest)).unlink()
    with pytest.raises(PlatformError, match="image tiny: layer") as caught:
        await site.images.ensure("tiny")
    assert caught.value.code == "not-available"
    assert "paas images import" in caught.value.hint
    with pytest.raises(PlatformError, match="no image is called"):
        await site.images.ensure("other")


async def test_what_no_image_has_any_more_goes_everywhere(cluster: Cluster) -> None:
    sites = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    shared, own = await sites[0].send(ONE), await sites[0].send(TWO)
    first = await sites[0].register("first", shared, own)
    second = await sites[0].register("second", shared)
    await until(
        lambda: sites[0].retained and sites[0].retained[-1] == sorted([first.chain, second.chain])
    )
    await sites[1].images._remove(messages.RemoveImage(name="first"), sites[1].context())
    await until(lambda: not cluster.holders(own))
    assert len(cluster.holders(shared)) >= 2
    await until(lambda: all(s.retained[-1] == [second.chain] for s in sites))


async def test_an_image_that_a_type_needs_is_not_removed(cluster: Cluster) -> None:
    site = await cluster.add("n1")
    await site.register("tiny", await site.send(ONE))
    site.users["tiny"] = ["web@1"]
    with pytest.raises(PlatformError, match="the base of web@1") as caught:
        await site.images._remove(messages.RemoveImage(name="tiny"), site.context())
    assert caught.value.code == "conflict"


async def test_a_layer_that_is_removed_while_another_image_takes_it_is_not_lost(
    cluster: Cluster,
) -> None:
    """The removal is applied between making sure of the layers and the command."""
    sites = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    layer = await sites[0].send(TWO)
    await sites[0].register("old", layer)
    refused: list[str] = []
    propose = cluster.log.propose

    async def with_removal(command: Any, *, timeout_s: float = 10.0) -> Any:
        if isinstance(command, ImageRegistered) and not refused:
            refused.append(command.name)
            await propose(ImageForgotten(name="old"))
            await until(lambda: len(cluster.holders(layer)) < 3 or cluster.state.removals)
        return await propose(command, timeout_s=timeout_s)

    cluster.log.propose = with_removal  # type: ignore[method-assign]
    info = await sites[0].register("new", layer)
    assert refused == ["new"]
    assert info.layers[0].digest == layer.digest
    await until(lambda: len(cluster.holders(layer)) == 3)


@pytest.mark.parametrize(
    ("data", "more", "code"),
    [
        (ONE, {"digest": "sha256:" + "1" * 64}, "corrupt"),
        (ONE, {"diff_id": "sha256:" + "1" * 64}, "corrupt"),
        (tar(member("../x", b"1")), {}, "invalid"),
        (ONE[:700], {}, "corrupt"),
    ],
)
async def test_a_layer_is_kept_when_it_could_be_unpacked_and_is_what_was_announced(
    cluster: Cluster, data: bytes, more: dict[str, str], code: str
) -> None:
    site = await cluster.add("n1")
    with pytest.raises(PlatformError) as caught:
        await site.send(data, **more)
    assert caught.value.code == code
    assert site.store.stored() == []


async def test_a_name_needs_layers_that_were_verified_here_or_are_known(cluster: Cluster) -> None:
    one, two = await cluster.add("n1"), await cluster.add("n2")
    layer = await one.send(ONE)
    with pytest.raises(PlatformError, match="was not sent"):
        await two.register("tiny", layer)
    await one.register("tiny", layer)
    await two.register("same", layer)
    lie = Layer(digest=layer.digest, size=layer.size, diff_id="sha256:" + "3" * 64)
    with pytest.raises(PlatformError, match="is not sha256:333"):
        await two.register("lie", lie)


async def test_what_is_there_need_not_be_sent_again(cluster: Cluster) -> None:
    site = await cluster.add("n1")
    layer = await site.send(ONE)
    begin = messages.BeginBlob(digest=layer.digest, size=layer.size)
    assert site.images.uploads.begin(begin, site.context()).present


async def test_an_upload_ends_with_its_connection_and_leaves_nothing(cluster: Cluster) -> None:
    site = await cluster.add("n1")
    begin = messages.BeginBlob(digest="sha256:" + "1" * 64, size=10)
    upload = site.images.uploads.begin(begin, site.context()).upload
    site.images.connection_closed(cast(Peer, site))
    piece = messages.AppendBlob(upload=upload, offset=0, data=b"x")
    with pytest.raises(PlatformError, match="no upload"):
        site.images.uploads.append(piece, site.context())
    assert not list(site.store.incoming.iterdir())


async def test_layers_and_bundles_are_read_back_in_pieces(cluster: Cluster) -> None:
    one, two = await cluster.add("n1"), await cluster.add("n2")
    layer = await one.send(TWO)
    await one.register("tiny", layer)
    read, size = b"", 1
    while len(read) < size:
        ask = messages.ReadContent(digest=layer.digest, offset=len(read), limit=10)
        piece = await two.images._read(ask, two.context())
        read, size = read + piece.data, piece.size
    assert digests.of(read) == layer.digest
    bundle = messages.ReadContent(digest="sha256:" + "9" * 64, offset=2, limit=10)
    assert (await one.images._read(bundle, one.context())).data == b"ndle"
    for wrong in (
        {"offset": -1, "limit": 1},
        {"offset": 0, "limit": 0},
        {"offset": 0, "limit": 1 << 30},
    ):
        ask = messages.ReadContent(digest=layer.digest, **wrong)
        with pytest.raises(PlatformError, match="expected"):
            await one.images._read(ask, one.context())


async def test_every_node_verifies_and_heals(cluster: Cluster) -> None:
    sites = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    layer = await sites[0].send(TWO)
    await sites[0].register("tiny", layer)
    await until(lambda: len(cluster.holders(layer)) == 3)
    path = sites[1].store.path(digests.parse(layer.digest))
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    sites[2].damaged = ["etc/x"]
    ask = messages.VerifyImage(name="tiny")
    found = await sites[0].images._verify(ask, sites[0].context())
    assert {n.node: n.damaged for n in found.nodes} == {
        "n1": [],
        "n2": [layer.digest],
        "n3": ["etc/x"],
    }
    assert digests.of(path.read_bytes()) == layer.digest
    assert found.missing == []


async def test_a_node_alone_removes_at_its_start_what_the_log_does_not_know(
    cluster: Cluster,
) -> None:
    site = await cluster.add("n1")
    known, unknown = await site.send(ONE), await site.send(TWO)
    await site.register("tiny", known)
    alone = Images(
        site.store, cluster.state, cluster.log, site, site, bundle_piece=site.bundle_piece
    )
    alone.collect()
    assert site.store.stored() == [known.digest]
    assert unknown.digest != known.digest
