"""Durable mailboxes on three nodes: the node that delivers dies, and every message is done."""

from __future__ import annotations

import time
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ACTOR = "actor@1.0.0"
GROUP = "durable-notes"
COUNT = 150


def cast(cluster: DevCluster, number: int) -> None:
    """Cast until some hub has accepted it."""
    end_s = time.monotonic() + 90
    while True:
        try:
            cluster.api(
                "hub.cast",
                target=f"group:{GROUP}",
                operation="note",
                inputs={"value": number},
                id=f"m{number}",
                timeout_s=10,
            )
        except PlatformError as error:
            again = ("unavailable", "unknown-outcome", "timeout", "not-available")
            if error.code not in again or time.monotonic() > end_s:
                raise
            time.sleep(0.1)
        else:
            return


def mailbox(cluster: DevCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.api("hub.group", group=GROUP)["groups"][0]["mailbox"]
    return found


def test_another_node_delivers_when_the_one_that_did_is_lost(cluster: DevCluster) -> None:
    cluster.api("hub.configure_group", group=GROUP, mailbox="durable", backoff_s=0.2)
    victim = mailbox(cluster)["primary"]
    others = [name for name in cluster.names if name != victim]
    readers = [
        cluster.create(ACTOR, groups=[GROUP], constraints=[f"node={node}"]) for node in others
    ]
    doomed = cluster.create(
        ACTOR, groups=[GROUP], constraints=[f"node={victim}"], restart="temporary"
    )
    for number in range(COUNT):
        if number == COUNT // 3:
            cluster.kill(victim)
        cast(cluster, number)
    cluster.until(lambda: mailbox(cluster)["waiting"] == 0, timeout_s=90)
    box = mailbox(cluster)
    assert box["primary"] in others
    assert (box["accepted"], box["acknowledged"], box["dead"]) == (COUNT, COUNT, 0)
    notes = [cluster.call(one, "notes")["notes"] for one in readers]
    before_the_loss = set(range(COUNT // 3))  # some were done by the one on the lost node
    assert set(range(COUNT)) - set(notes[0] + notes[1]) <= before_the_loss
    for mine in notes:
        firsts = list(dict.fromkeys(mine))
        assert firsts == sorted(firsts)
    assert cluster.component(doomed)["state"] in ("destroyed", "offline", "destroying")
    cluster.resume(victim)
    cluster.wait_well()
    cluster.api("hub.configure_group", group=GROUP, mailbox="none")
