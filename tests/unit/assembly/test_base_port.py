"""What a start on an image needs: its layers, its tree, its defaults; and what is said without."""

from __future__ import annotations

from typing import Any

import pytest

from paas.assembly.base_port import BasePort
from paas.base.errors import PlatformError
from paas.container import base_methods as methods
from paas.container.messages import Limits
from paas.controller.ports import StartOrder
from paas.layers.state import Image
from paas.oci.documents import Defaults, Layer

LAYER = Layer(digest="sha256:" + "1" * 64, size=5, diff_id="sha256:" + "2" * 64)


def order(**changes: Any) -> StartOrder:
    given: dict[str, Any] = {
        "component": "c" * 40,
        "incarnation": 1,
        "bundle": "sha256:" + "3" * 64,
        "command": ("/own",),
        "base": "tiny",
        "protocol": "none",
        "environment": {"A": "mine"},
        "configuration": None,
        "endpoints": {},
        "limits": Limits(),
        "ready_timeout_s": 1.0,
        "stop_grace_s": 1.0,
        "hostname": "",
    }
    return StartOrder(**(given | changes))


class Images:
    """The hub's images: one, with defaults."""

    def __init__(self) -> None:
        self.doubts: list[bool] = []
        self.error: PlatformError | None = None

    async def ensure(self, name: str, *, doubt: bool = False) -> Image:
        self.doubts.append(doubt)
        if self.error is not None:
            raise self.error
        return Image(
            manifest="sha256:" + "4" * 64,
            architecture="amd64",
            layers=(LAYER,),
            defaults=Defaults(
                environment={"A": "image's", "B": "2"}, command=("/entry", "x"), directory="/srv"
            ),
            source=name,
            since_ms=0,
        )


class Client:
    """The container controller; the first `damaged` times a layer is damaged."""

    def __init__(self, damaged: int = 0) -> None:
        self.damaged = damaged
        self.asked: list[Any] = []

    async def call(self, method: Any, params: Any, *, timeout_s: float) -> Any:
        self.asked.append(params)
        if method is methods.PREPARE:
            if len(self.asked) <= self.damaged:
                raise PlatformError("corrupt")
            return methods.PreparedBase(base="sha256:tree")
        return methods.CheckedBase(present=True, damaged=["x"])


def port(client: Client, images: Images | None = None) -> tuple[BasePort, Images]:
    made: Any = BasePort(client)  # type: ignore[arg-type]
    made.images = images or Images()
    return made, made.images


async def test_a_start_gets_the_tree_and_the_defaults_that_it_does_not_say_itself() -> None:
    client = Client()
    made, _ = port(client)
    found = await made.prepared(order())
    assert found.base == "sha256:tree"
    assert (found.command, found.directory) == (("/own",), "")
    assert found.environment == {"A": "mine", "B": "2"}
    assert client.asked[0].component == "c" * 40
    assert client.asked[0].layers[0].diff_id == LAYER.diff_id
    found = await made.prepared(order(command=()))
    assert (found.command, found.directory) == (("/entry", "x"), "/srv")


async def test_the_base_host_asks_nobody() -> None:
    client = Client()
    made, images = port(client)
    assert await made.prepared(order(base="host")) == order(base="host")
    assert not client.asked
    assert not images.doubts


async def test_a_damaged_layer_is_fetched_anew_once() -> None:
    made, images = port(Client(damaged=1))
    assert (await made.prepared(order())).base == "sha256:tree"
    assert images.doubts == [False, True]
    made, images = port(Client(damaged=2))
    with pytest.raises(PlatformError) as caught:
        await made.prepared(order())
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize(
    ("code", "seen"),
    [("no-such-target", "invalid"), ("not-available", "not-available"), ("storage-full",) * 2],
)
async def test_an_unknown_image_is_the_manifests_fault_and_nothing_else_is(
    code: str, seen: str
) -> None:
    images = Images()
    images.error = PlatformError(code)
    made, _ = port(Client(), images)
    with pytest.raises(PlatformError) as caught:
        await made.prepared(order())
    assert caught.value.code == seen
    assert ("images build" in caught.value.hint) == (seen == "invalid")


async def test_checks_are_passed_on() -> None:
    made, _ = port(Client())
    assert await made.check("sha256:tree") == (True, ["x"])
