"""A hub takes its own directory, an empty one, and no other node's."""

from __future__ import annotations

from pathlib import Path

import pytest

from paas.assembly.disk_owner import FILE, claim
from paas.base.errors import PlatformError
from paas.real.files import SystemFiles


def test_an_empty_directory_becomes_the_nodes_own(tmp_path: Path) -> None:
    files = SystemFiles(str(tmp_path))
    claim(files, cluster="lab", node="n1")
    claim(files, cluster="lab", node="n1")
    assert files.list() == [FILE]


@pytest.mark.parametrize(("cluster", "node"), [("lab", "n2"), ("other", "n1")])
def test_a_directory_of_another_is_refused_and_left_as_it_is(
    tmp_path: Path, cluster: str, node: str
) -> None:
    files = SystemFiles(str(tmp_path))
    claim(files, cluster="lab", node="n1")
    with pytest.raises(PlatformError, match="is of lab/n1, not of") as caught:
        claim(files, cluster=cluster, node=node)
    assert caught.value.code == "conflict"
    claim(files, cluster="lab", node="n1")


def test_an_interrupted_claim_is_made_again(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.new").write_text("lab/n")
    files = SystemFiles(str(tmp_path))
    claim(files, cluster="lab", node="n1")
    assert files.list() == [FILE]
