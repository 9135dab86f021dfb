"""Which nodes keep a bundle: agreed without talking, and changed by little."""

from __future__ import annotations

from collections import Counter

import pytest

from paas.bundle import digest as digests
from paas.bundle.limits import COPIES
from paas.bundle.placement import copies_at_upload, keepers, ranked

NODES = [f"n{i}" for i in range(1, 8)]
DIGESTS = [digests.of(str(i).encode()) for i in range(700)]


def test_the_order_of_the_nodes_given_does_not_matter() -> None:
    assert ranked(DIGESTS[0], NODES) == ranked(DIGESTS[0], NODES[::-1])


def test_a_node_that_goes_changes_only_what_it_kept() -> None:
    for digest in DIGESTS[:100]:
        before, after = keepers(digest, NODES), keepers(digest, NODES[1:])
        assert [n for n in before if n != "n1"] == after[: len([n for n in before if n != "n1"])]
        assert len(before) == len(after) == COPIES


def test_bundles_are_spread_over_the_nodes() -> None:
    counted = Counter(node for digest in DIGESTS for node in keepers(digest, NODES))
    assert set(counted) == set(NODES)
    assert max(counted.values()) < 2 * min(counted.values())


@pytest.mark.parametrize(
    ("nodes", "copies"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 3), (100, 3)]
)
def test_copies_before_an_upload_is_acknowledged(nodes: int, copies: int) -> None:
    assert copies_at_upload(nodes) == copies
