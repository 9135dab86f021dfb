"""Finding components and types."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.controller.component_types import no_such_type
from paas.controller.instances import Instance, Instances, names_for
from paas.controller.lifecycle import ComponentState


def registry(*names: str) -> Instances:
    instances = Instances()
    for number, name in enumerate(names):
        identity = f"{number:08x}".ljust(40, "0")
        instances.add(
            Instance(id=identity, type="t@1", name=name, node="n", created_ms=0, since_ms=0)
        )
    return instances


def test_by_id_by_prefix_and_by_name() -> None:
    instances = registry("ada", "bob")
    assert instances.resolve("00000001" + "0" * 32).name == "bob"
    assert instances.resolve("00000001").name == "bob"
    assert instances.resolve("ada").id.startswith("00000000")


def test_a_prefix_of_several_is_ambiguous() -> None:
    instances = Instances()
    for last in "ab":
        identity = "0" * 39 + last
        instances.add(Instance(id=identity, type="t", name="", node="n", created_ms=0, since_ms=0))
    with pytest.raises(PlatformError) as caught:
        instances.resolve("00000000")
    assert caught.value.code == "conflict"
    ended = instances.resolve("0" * 39 + "a")
    ended.state = ComponentState.DESTROYED
    instances.end(ended)
    assert instances.resolve("00000000").id.endswith("b")


@pytest.mark.parametrize("target", ["0000000", "ffffffff", "", "adda", "x" * 10_000])
def test_an_unknown_target_is_named_and_the_nearest_proposed(target: str) -> None:
    with pytest.raises(PlatformError) as caught:
        registry("ada", "bob").resolve(target)
    assert caught.value.code == "no-such-target"
    assert len(caught.value.message) < 200
    assert caught.value.data["did_you_mean"] == (["ada"] if target == "adda" else [])


def test_names_of_several() -> None:
    assert names_for("", 2) == ["", ""]
    assert names_for("a", 1) == ["a"]
    assert names_for("a", 2) == ["a-1", "a-2"]


def test_an_unknown_type_proposes_full_names_and_names() -> None:
    error = no_such_type("helo", ["hello@1.0.0", "other@2"])
    assert error.data["did_you_mean"][0] == "hello"
    assert "hello" in error.hint
