"""Going into a component on another node, by way of the mesh, and what ends on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ACTOR_TYPE = "actor@1.0.0"


@pytest.fixture
def target(cluster: DevCluster) -> str:
    return cluster.create(ACTOR_TYPE, constraints=["node=n2"])


def words(node: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "paas.cli", "--node", node, *more]


def paas(
    cluster: DevCluster, *more: str, given: bytes = b"", status: int = 0, node: str = "n1"
) -> bytes:
    done = subprocess.run(
        words(node, *more),
        env=cluster.environment(),
        input=given,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == status, done
    return done.stdout + done.stderr if status else done.stdout


def say(cluster: DevCluster, target: str) -> bytes:
    """What comes of a command, if anything does."""
    done = subprocess.run(
        words("n1", "exec", target, "--", "echo", "yes"),
        env=cluster.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=90,
        check=False,
    )
    return done.stdout


def test_commands_and_files_cross_the_mesh(
    cluster: DevCluster, target: str, tmp_path: Path
) -> None:
    data = os.urandom(3_000_000)
    assert paas(cluster, "exec", target, "--", "cat", given=data) == data
    paas(cluster, "exec", target, "--", "sh", "-c", "exit 5", status=5)
    assert paas(cluster, "exec", target, "--", "sh", "-c", "echo $HOSTNAME") != b""
    (tmp_path / "file").write_bytes(data)
    paas(cluster, "cp", str(tmp_path / "file"), f"{target}:/tmp/")
    paas(cluster, "cp", f"{target}:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    assert b"no-such" not in paas(cluster, "exec", target, "--", "id", node="n3")


def test_two_ways_at_a_time_do_not_hold_each_other_up(cluster: DevCluster, target: str) -> None:
    stuck = subprocess.Popen(
        words("n1", "exec", target, "--", "cat", "/dev/zero"),
        env=cluster.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,  # nobody reads it
    )
    try:
        data = os.urandom(500_000)
        assert paas(cluster, "exec", target, "--", "cat", given=data) == data
        assert cluster.call(target, "who", node="n1")["id"] == target
    finally:
        stuck.kill()
        stuck.communicate()


def test_the_loss_of_a_hub_on_the_way_ends_the_command(cluster: DevCluster, target: str) -> None:
    running = subprocess.Popen(
        words("n1", "exec", target, "--", "sh", "-c", "echo on; exec sleep 600"),
        env=cluster.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"on\n"
    cluster.kill_agents("n2", "hub")
    _, said = running.communicate(timeout=60)
    assert running.returncode == 6, said
    cluster.wait_well()
    cluster.until(lambda: b"yes" in say(cluster, target))
    listed = paas(cluster, "exec", target, "--", "sh", "-c", "cat /proc/[0-9]*/cmdline")
    assert b"sleep\x00600" not in listed


def test_a_component_on_a_node_that_cannot_be_reached(cluster: DevCluster, target: str) -> None:
    cluster.partition("n1,n3|n2")
    said = paas(cluster, "exec", target, "--", "id", status=1)
    assert b"not-available" in said
