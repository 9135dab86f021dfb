"""The gateway's folder, as `paas gateway build` makes it."""

from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.bundle.manifest import parse
from paas.gateway.client import NAME, build
from paas.gateway.component.records import BELOW


def test_the_folder_is_a_component_that_may_reach_what_was_said(tmp_path: Path) -> None:
    made = tmp_path / "gateway"
    assert build(made, version="2.0.0", publish=8080, allow=("acme.test:443",)) == f"{NAME}@2.0.0"
    manifest = parse((made / "component.toml").read_bytes())
    assert manifest.component.gateway
    assert f"{manifest.component.application}.app" == BELOW, "where it may publish"
    assert manifest.egress.allow == ("acme.test:443",)
    assert [manifest.endpoints[name].publish for name in ("http", "https")] == [8080, 0]
    assert (made / "paas/gateway/component/main.py").is_file()
    assert (made / "h11/__init__.py").is_file()
    assert not (made / "paas/hub/router.py").exists()


def test_without_a_word_it_reaches_nothing_outside(tmp_path: Path) -> None:
    build(tmp_path / "gateway")
    manifest = parse((tmp_path / "gateway/component.toml").read_bytes())
    assert manifest.egress.allow == ()


def test_what_cannot_be_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as caught:
        build(tmp_path / "gateway", allow=("anything",))
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", "allow")
    assert not (tmp_path / "gateway").exists()
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError) as caught:
        build(tmp_path)
    assert caught.value.code == "conflict"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
