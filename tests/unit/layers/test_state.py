"""What the cluster knows about images: names, layers in common, and the same from every log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.layers import limits
from paas.layers.state import ImageChanged, ImageForgotten, ImageRegistered, ImageState
from paas.oci.documents import Defaults, Layer
from paas.oci.limits import LAYERS_MAX
from paas.raft.command import Stamp, decode, encode


@dataclass
class Context:
    stamp: Stamp = field(default_factory=lambda: Stamp(5_000, bytes(16), "test", 1))
    events: list[Any] = field(default_factory=list)

    def emit(self, event: Any) -> None:
        self.events.append(event)


def layer(number: int) -> Layer:
    return Layer(digest=f"sha256:{number:064x}", size=9, diff_id=f"sha256:{number + 4096:064x}")


def registered(name: str, *numbers: int, **more: Any) -> ImageRegistered:
    manifest = f"sha256:{hash(numbers) & (1 << 64) - 1:064x}"
    layers = tuple(layer(number) for number in numbers)
    return ImageRegistered(
        name=name, manifest=manifest, architecture="amd64", layers=layers, **more
    )


def apply(state: ImageState, *commands: Any) -> list[ImageChanged]:
    context = Context()
    for command in commands:
        state.commands[type(command)](command, context)
    return context.events


def test_a_name_stands_for_its_layers() -> None:
    state = ImageState()
    (event,) = apply(state, registered("a", 1, 2))
    assert state.image("a").layers == (layer(1), layer(2))
    assert state.image("a").since_ms == 5_000
    assert event.chain == state.image("a").chain
    assert set(state.bundles) == {layer(1).digest, layer(2).digest}


def test_repeating_a_command_changes_nothing() -> None:
    state = ImageState()
    assert len(apply(state, registered("a", 1), registered("a", 1))) == 1
    assert len(apply(state, ImageForgotten(name="a"), ImageForgotten(name="a"))) == 1


def test_another_image_under_a_name_needs_to_be_meant() -> None:
    state = ImageState()
    apply(state, registered("a", 1))
    with pytest.raises(PlatformError) as caught:
        apply(state, registered("a", 2))
    assert caught.value.code == "conflict"
    (event,) = apply(state, registered("a", 2, replace=True))
    assert event.gone == (layer(1).digest,)


def test_a_layer_goes_with_the_last_image_that_has_it() -> None:
    state = ImageState()
    apply(state, registered("a", 1, 2), registered("b", 1, 3))
    (event,) = apply(state, ImageForgotten(name="a"))
    assert event.gone == (layer(2).digest,)
    (event,) = apply(state, ImageForgotten(name="b"))
    assert event.gone == (layer(1).digest, layer(3).digest)
    assert not state.bundles


def test_layers_that_went_since_they_were_made_sure_of_are_made_sure_of_again() -> None:
    state = ImageState()
    apply(state, registered("a", 1))
    seen = state.removals
    apply(state, ImageForgotten(name="a"))
    with pytest.raises(PlatformError) as caught:
        apply(state, registered("b", 1, removals=seen))
    assert caught.value.data["removals"] == state.removals
    apply(state, registered("b", 1, removals=state.removals))


@pytest.mark.parametrize("name", ["host", "", "A", "a_b", "1a", "-a", "a-", "x" * 64, "a/b"])
def test_names_that_no_manifest_can_give_are_refused(name: str) -> None:
    with pytest.raises(PlatformError, match="name"):
        apply(ImageState(), registered(name, 1))


def test_an_image_without_layers_or_with_a_wrong_digest_is_refused() -> None:
    wrong = ImageRegistered(name="a", manifest="x", architecture="", layers=(layer(1),))
    for command in (registered("a"), wrong):
        state = ImageState()
        with pytest.raises(PlatformError):
            apply(state, command)
        assert not state.images


def test_there_are_not_more_images_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAGES_MAX", 1)
    state = ImageState()
    apply(state, registered("a", 1))
    with pytest.raises(PlatformError, match="1 images already"):
        apply(state, registered("b", 2))
    apply(state, registered("a", 2, replace=True))


def test_a_snapshot_says_all_in_one_order() -> None:
    one, other, read = ImageState(), ImageState(), ImageState()
    apply(one, registered("a", 1, 2), registered("b", 1), ImageForgotten(name="a"))
    apply(one, registered("c", 4), registered("a", 1, 2))
    apply(other, registered("c", 4), registered("x", 9), ImageForgotten(name="x"))
    apply(other, registered("a", 1, 2), registered("b", 1))
    assert one.snapshot() == other.snapshot()
    read.restore(one.snapshot())
    assert read.snapshot() == one.snapshot()
    assert read.bundles == one.bundles
    assert read.removals == one.removals


def test_the_largest_image_that_can_be_read_fits_in_a_command() -> None:
    defaults = Defaults(
        environment={f"V{i}": "x" * 60 for i in range(60)}, command=("w" * 1_000, "v" * 1_000)
    )
    command = registered("a" * 63, *range(LAYERS_MAX), defaults=defaults, source="s" * 200)
    stamp = Stamp(5_000, bytes(16), "test", 1)
    assert decode(encode(command, stamp))[1] == command
