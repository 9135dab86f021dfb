"""Persistent volumes on one node: what is written stays, is the component's, and is bounded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.messages import VolumeMount
from paas.real import kernel_volume

pytestmark = pytest.mark.system

MIB = 1 << 20
LOOK = """
import json, os, sys
path = sys.argv[1]
facts = os.stat(path)
print(json.dumps({
    "uid": facts.st_uid, "me": os.getuid(), "names": sorted(os.listdir(path)),
    "texts": {n: open(f"{path}/{n}").read() for n in os.listdir(path)},
}), file=sys.stderr)
"""
WRITE = """
import json, os, sys
path, name, text = sys.argv[1:]
with open(f"{path}/{name}", "w") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
print(json.dumps(os.stat(f"{path}/{name}").st_uid), file=sys.stderr)
"""
FILL = """
import json, os, sys
path = sys.argv[1]
written, error = 0, ""
with open(f"{path}/large", "wb", buffering=0) as file:
    try:
        while True:
            written += file.write(bytes(1 << 20))
    except OSError as exc:
        error = os.strerror(exc.errno)
os.unlink(f"{path}/large")
free = os.statvfs("/tmp")
print(json.dumps({"written": written, "error": error, "beside": free.f_bavail}), file=sys.stderr)
"""
SLEEP = ("/bin/sleep", "1000")


def volume(epoch: int = 1, **changes: Any) -> VolumeMount:
    given = {"owner": "db", "name": "data", "epoch": epoch, "path": "/data", "fresh": True}
    return VolumeMount(**{"size_bytes": 16 * MIB, **given, **changes})


def image(node: Any, epoch: int = 1, owner: str = "db", name: str = "data") -> Path:
    return Path(node.settings.volumes_dir) / owner / str(epoch) / f"{name}.img"


async def test_a_new_volume_is_empty_and_the_components_own(node: Any) -> None:
    seen = await node.python(LOOK, "/data", volumes=(volume(),))
    assert seen == {"uid": 1000, "me": 1000, "names": [], "texts": {}}


async def test_what_was_written_is_there_in_the_next_container_whatever_its_users(
    node: Any,
) -> None:
    assert await node.python(WRITE, "/data", "a", "kept", volumes=(volume(),)) == 1000
    other = await node.start(*SLEEP)  # takes the range of users that the first one had
    seen = await node.python(LOOK, "/data", volumes=(volume(fresh=False),))
    assert seen["texts"] == {"a": "kept"}
    assert seen["uid"] == 1000
    await node.engine.destroy(other.component)


async def test_owners_are_right_too_where_the_kernel_maps_none(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_base: int, _count: int) -> int:
        raise OSError("no user namespaces for mounts")

    await node.python(WRITE, "/data", "a", "mapped", volumes=(volume(),))
    with monkeypatch.context() as patch:
        patch.setattr(kernel_volume, "open_id_map", refuse)
        node.engine.ready().volumes.close()
        other = await node.start(*SLEEP)
        seen = await node.python(LOOK, "/data", volumes=(volume(),))
        assert (seen["uid"], seen["texts"]) == (1000, {"a": "mapped"})
        assert await node.python(WRITE, "/data", "b", "rewritten", volumes=(volume(),)) == 1000
        await node.engine.destroy(other.component)
    seen = await node.python(LOOK, "/data", volumes=(volume(),))
    assert (seen["uid"], seen["texts"]) == (1000, {"a": "mapped", "b": "rewritten"})


async def test_a_full_volume_is_full_for_itself_only(node: Any) -> None:
    seen = await node.python(FILL, "/data", volumes=(volume(),))
    assert seen["error"] == "No space left on device"
    assert 4 * MIB < seen["written"] < 16 * MIB
    assert seen["beside"] > 0
    assert image(node).stat().st_size == 16 * MIB


async def test_a_volume_grows_and_never_shrinks(node: Any) -> None:
    await node.python(WRITE, "/data", "a", "kept", volumes=(volume(),))
    seen = await node.python(LOOK, "/data", volumes=(volume(size_bytes=48 * MIB),))
    assert seen["texts"] == {"a": "kept"}
    filled = await node.python(FILL, "/data", volumes=(volume(size_bytes=16 * MIB),))
    assert filled["written"] > 24 * MIB
    assert image(node).stat().st_size == 48 * MIB


async def test_two_volumes_are_two(node: Any) -> None:
    both = (volume(), volume(name="log", path="/app/var/log"))
    await node.python(WRITE, "/app/var/log", "l", "log", volumes=both)
    assert (await node.python(LOOK, "/data", volumes=both))["names"] == []
    assert (await node.python(LOOK, "/app/var/log", volumes=both))["texts"] == {"l": "log"}


async def test_a_volume_has_one_writer(node: Any) -> None:
    first = await node.start(*SLEEP, volumes=(volume(),))
    volumes = node.engine.ready().volumes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paas.container.limits.VOLUME_FREE_WAIT_S", 0.2)
        with pytest.raises(PlatformError) as refused:
            await node.start(*SLEEP, volumes=(volume(),))
    assert refused.value.code == "conflict"
    for asked in (volumes.read("db", 1, "data", 0, MIB), volumes.drop("db", 1)):
        with pytest.raises(PlatformError) as refused:
            await asked
        assert refused.value.code == "conflict"
    await node.engine.destroy(first.component)
    await node.run("/bin/true", volumes=(volume(),))


async def test_a_container_that_was_killed_leaves_its_volume_whole(node: Any) -> None:
    program = "import os,sys;f=open('/data/a','w');f.write('kept');f.flush();os.fsync(f.fileno())"
    program += ";open('/data/ready','w').close();import time;time.sleep(1000)"
    started = await node.start("/usr/bin/python3", "-I", "-c", program, volumes=(volume(),))
    with trio.fail_after(30):
        while not _written(started.pid):  # noqa: ASYNC110  (the component tells nobody)
            await trio.sleep(0.02)
    await node.engine.kill(started.component)
    await node.wait_exit(started.component)
    await node.engine.destroy(started.component)
    seen = await node.python(LOOK, "/data", volumes=(volume(fresh=False),))
    assert seen["texts"]["a"] == "kept"


def _written(pid: int) -> bool:
    return Path(f"/proc/{pid}", "root", "data/ready").exists()


async def test_volumes_outlive_the_controller_and_their_containers_do_too(fresh_node: Any) -> None:
    async with fresh_node.running():
        started = await fresh_node.start(*SLEEP, volumes=(volume(),))
    async with fresh_node.running() as engine:
        with pytest.raises(PlatformError):  # adopted, it has its volume still
            await engine.ready().volumes.drop("db", 1)
        await engine.destroy(started.component)
        await fresh_node.python(WRITE, "/data", "a", "kept", volumes=(volume(),))
    async with fresh_node.running():
        seen = await fresh_node.python(LOOK, "/data", volumes=(volume(),))
        assert seen["texts"] == {"a": "kept"}


async def test_another_epoch_is_another_copy(node: Any) -> None:
    await node.python(WRITE, "/data", "a", "first", volumes=(volume(1),))
    assert (await node.python(LOOK, "/data", volumes=(volume(2),)))["names"] == []
    assert (await node.python(LOOK, "/data", volumes=(volume(1),)))["texts"] == {"a": "first"}


async def test_a_volume_that_should_be_there_is_never_made_anew(node: Any) -> None:
    with pytest.raises(PlatformError) as refused:
        await node.start(*SLEEP, volumes=(volume(fresh=False),))
    assert refused.value.code == "corrupt"
    assert "paas volumes remove db" in refused.value.hint
    assert not image(node).exists()


async def test_a_disk_that_is_full_makes_no_volume(node: Any) -> None:
    too_large = os.statvfs(node.directory).f_bavail * os.statvfs(node.directory).f_frsize
    with pytest.raises(PlatformError) as refused:
        await node.start(*SLEEP, volumes=(volume(size_bytes=too_large),))
    assert refused.value.code == "storage-full"
    assert not list(image(node).parent.glob("*"))


async def test_a_link_in_the_bundle_does_not_lead_a_volume_elsewhere(node: Any) -> None:
    (node.bundle / "data").symlink_to("/etc")
    with pytest.raises(PlatformError):
        await node.start(*SLEEP, volumes=(volume(path="/app/data"),))
    assert not any(node.container_leftovers().values())


async def test_devices_and_set_user_files_mean_nothing_in_a_volume(node: Any) -> None:
    program = "import json,sys;print(json.dumps([l.split()[3] for l in open('/proc/mounts')"
    program += " if l.split()[1]=='/data']),file=sys.stderr)"
    [options] = await node.python(program, volumes=(volume(),))
    assert {"nosuid", "nodev"} <= set(options.split(","))
