"""One cluster of three nodes for all tests of volumes; each test finds it whole and empty."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import DevCluster, dev_cluster

LEDGER = Path(__file__).parent / "components" / "ledger"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    scratch = tmp_path_factory.mktemp("types") / "scratch"
    shutil.copytree(LEDGER, scratch)
    text = (scratch / "component.toml").read_text()
    text = text.replace('name = "ledger"', 'name = "scratch"')
    (scratch / "component.toml").write_text(text.replace("96M", '16M"\non_loss = "empty'))
    with dev_cluster(3) as one:
        assert one.push(LEDGER) == "ledger@1.0.0"
        assert one.push(scratch) == "scratch@1.0.0"
        yield one


@pytest.fixture
def cluster(shared: DevCluster) -> DevCluster:
    """No component, no volume and no file of one is left of the tests before."""
    shared.calm()
    shared.destroy_all()

    def empty() -> bool:
        for volume in shared.api("volume.list")["volumes"]:
            with contextlib.suppress(PlatformError):
                shared.api("volume.remove", owner=volume["owner"])
        images = [
            name
            for node in shared.names
            for _, _, names in os.walk(shared.node_state(node) / "volumes")
            for name in names
            if name.endswith(".img")
        ]
        return not images and not shared.api("volume.list")["volumes"]

    shared.until(empty)
    return shared
