"""Snapshots of a component's files, and going back to one: on every file system that keeps them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.snapshots import Snapshots
from paas.real import kernel_btrfs as btrfs
from paas.real.clock import SystemClock
from tests.system.container.filesystems.files_tools import KEEPING, snapshots_of, wait_log

pytestmark = pytest.mark.system

PYTHON = "/usr/bin/python3"

WRITE = """
import os, sys, time
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
write("/app/kept", "before")
os.chmod("/app/kept", 0o640)
os.mkdir("/app/folder")
os.symlink("../kept", "/app/folder/link")
os.link("/app/kept", "/app/second")
print("first", file=sys.stderr, flush=True)
number = 0
while not os.path.exists("/tmp/go"):
    write(f"/app/number-{number % 8}", "x" * 1000 * (number % 8))
    number += 1
    time.sleep(0.001)
"""

READ = """
import json, os
found = {}
for folder, _, names in os.walk("/app"):
    for name in names:
        path = os.path.join(folder, name)
        facts = os.lstat(path)
        found[os.path.relpath(path, "/app")] = [facts.st_uid, oct(facts.st_mode), facts.st_nlink]
for name in ("kept", "folder/new"):
    try:
        open(f"/app/{name}", "a").write(" and after")
    except OSError as exc:
        found["error " + name] = exc.errno
found["text"] = open("/app/kept").read() if "kept" in found else ""
print(json.dumps(found))
"""


@pytest.fixture(params=KEEPING)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def again(node: Any, source: str, **changes: Any) -> Any:
    """Run it in a container of a component that may have had one before."""
    node.exits.clear()
    return await node.python(source, **changes)


async def started_and_written(node: Any, **changes: Any) -> Any:
    started = await node.start(PYTHON, "-I", "-c", WRITE, **changes)
    await wait_log(node, started.component, "first")
    return started


async def test_going_back_brings_the_files_with_their_owners(files_node: Any) -> None:
    """Also after the controller was restarted, and for a container with another range of users."""
    async with files_node.running() as engine:
        started = await started_and_written(files_node)
        info = await snapshots_of(files_node).create(started.component, "one")
        assert 0 < info.size_bytes < 64 << 20
        await engine.destroy(started.component)
    async with files_node.running() as engine:
        other = await files_node.start(PYTHON, "-I", "-c", WRITE)  # has the range it had
        snapshots = snapshots_of(files_node)
        assert [i.name for i in snapshots.kept(started.component)] == ["one"]
        snapshots.rollback(started.component, "one")
        seen = await again(files_node, READ, component=started.component)
        assert other.uid_base == started.uid_base
        assert seen["kept"] == [1000, "0o100640", 2]
        assert seen["folder/link"][:2] == [1000, "0o120777"]
        assert seen["text"] == "before and after"
        assert "error folder/new" not in seen
        fresh = await again(files_node, READ, component=started.component)
        assert "kept" not in fresh  # the order was fulfilled by the container before
        await snapshots.drop(started.component)
        assert snapshots.kept() == []


async def test_a_snapshot_of_a_restored_container_can_be_restored(files_node: Any) -> None:
    async with files_node.running() as engine:
        snapshots = snapshots_of(files_node)
        started = await started_and_written(files_node)
        await files_node.start(PYTHON, "-I", "-c", WRITE)
        await snapshots.create(started.component, "one")
        await engine.destroy(started.component)
        await files_node.start(PYTHON, "-I", "-c", WRITE)  # so that ranges move on
        snapshots.rollback(started.component, "one")
        second = await files_node.start(
            PYTHON,
            "-I",
            "-c",
            "import sys, time; open('/app/more', 'w').write('more')\n"
            "print('written', file=sys.stderr, flush=True); time.sleep(600)",
            component=started.component,
        )
        await wait_log(files_node, second.component, "written")
        assert second.uid_base != started.uid_base
        await snapshots.create(started.component, "two")
        await engine.destroy(started.component)
        snapshots.rollback(started.component, "two")
        seen = await again(files_node, READ, component=started.component)
        assert seen["more"][0] == 1000
        assert seen["kept"][0] == 1000
        assert seen["text"] == "before and after"
        await snapshots.drop(started.component, "one")
        assert [i.name for i in snapshots.kept(started.component)] == ["two"]


async def test_what_is_written_meanwhile_is_whole_or_absent(files_node: Any) -> None:
    """The component writes all the time; every file of the snapshot can be read."""
    async with files_node.running() as engine:
        snapshots = snapshots_of(files_node)
        started = await started_and_written(files_node)
        for name in ("one", "two", "three"):
            await snapshots.create(started.component, name)
            assert not engine.find(started.component).frozen
        await engine.kill(started.component)
        await files_node.wait_exit(started.component)
        await engine.destroy(started.component)
        for info in snapshots.kept(started.component):
            snapshots.rollback(started.component, info.name)
            source = "import json, glob; print(json.dumps([len(open(p).read()) for p in "
            sizes = await again(
                files_node, source + "glob.glob('/app/number-*')]))", component=started.component
            )
            assert all(size % 1000 == 0 for size in sizes)
            assert sizes


async def test_a_start_that_fails_keeps_the_order(files_node: Any) -> None:
    async with files_node.running() as engine:
        snapshots = snapshots_of(files_node)
        started = await started_and_written(files_node)
        await snapshots.create(started.component, "one")
        await engine.destroy(started.component)
        snapshots.rollback(started.component, "one")
        with pytest.raises(PlatformError):
            await files_node.start(
                PYTHON, component=started.component, bundle_dir=str(files_node.hub)
            )
        seen = await again(files_node, READ, component=started.component)
        assert seen["text"] == "before and after"


async def test_names_numbers_and_room_are_bounded(files_node: Any, monkeypatch: Any) -> None:
    async with files_node.running() as engine:
        snapshots = snapshots_of(files_node)
        started = await started_and_written(files_node)
        for name in ("", "..", "a/b", "Upper", "x" * 41, ".hidden"):
            with pytest.raises(PlatformError) as refused:
                await snapshots.create(started.component, name)
            assert refused.value.code == "invalid"
        await snapshots.create(started.component, "one")
        with pytest.raises(PlatformError) as refused:
            await snapshots.create(started.component, "one")
        assert refused.value.code == "conflict"
        monkeypatch.setattr(limits, "SNAPSHOTS_MAX", 1)
        with pytest.raises(PlatformError) as refused:
            await snapshots.create(started.component, "two")
        assert refused.value.code == "limit-exceeded"
        monkeypatch.setattr(limits, "SNAPSHOTS_MAX", 2)
        monkeypatch.setattr(limits, "SNAPSHOT_BYTES_MAX", 1000)
        with pytest.raises(PlatformError) as refused:
            await snapshots.create(started.component, "two")
        assert refused.value.code == "limit-exceeded"
        for work in (snapshots.drop, snapshots.create):
            with pytest.raises(PlatformError) as refused:
                await work("f" * 40, "one")
            assert refused.value.code == "no-such-target"
        with pytest.raises(PlatformError) as refused:
            snapshots.rollback(started.component, "nine")
        assert refused.value.code == "no-such-target"
        await engine.kill(started.component)
        await files_node.wait_exit(started.component)
        with pytest.raises(PlatformError) as refused:
            await snapshots.create(started.component, "late")
        assert refused.value.code == "not-available"
        assert [info.name for info in snapshots.kept()] == ["one"]


async def test_another_size_of_disk(files_node: Any, small: Any, kind: str) -> None:
    """More is given; less than the files take is refused, and the order stands."""
    async with files_node.running() as engine:
        snapshots = snapshots_of(files_node)
        source = (
            "import os, sys, time; open('/app/kept', 'wb').write(os.urandom(5 << 20)); os.sync()\n"
            "print('first', file=sys.stderr, flush=True); time.sleep(600)"
        )
        started = await files_node.start(PYTHON, "-I", "-c", source, limits=small)
        await wait_log(files_node, started.component, "first")
        await snapshots.create(started.component, "one")
        await engine.destroy(started.component)
        snapshots.rollback(started.component, "one")
        look = "import json, os; os.stat('/app/kept'); s = os.statvfs('/app')\n"
        look += "print(json.dumps(s.f_blocks * s.f_frsize))"
        if kind != "btrfs":
            less = replace(small, disk_bytes=2 << 20)
            with pytest.raises(PlatformError) as refused:
                await files_node.start(PYTHON, component=started.component, limits=less)
            assert refused.value.code == "invalid"
        more = replace(small, disk_bytes=32 << 20)
        size = await again(files_node, look, component=started.component, limits=more)
        assert size > 24 << 20


async def test_a_hostile_tree_harms_nobody_when_it_comes_back(
    files_node: Any, kind: str, tmp_path: Path
) -> None:
    """Links where files and directories are expected; a component itself can make the first."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o777)
    (victim / "hosts").write_text("untouched")
    place = "/etc" if kind != "binds-image" else "/app"  # there /etc is not written to
    source = (
        "import os, sys, time\n"
        f"os.path.lexists('{place}/hosts') and os.unlink('{place}/hosts')\n"
        f"os.symlink({str(victim / 'hosts')!r}, '{place}/hosts')\n"
        "print('written', file=sys.stderr, flush=True); time.sleep(600)\n"
    )
    changes = {"configuration": {"root": True}} if place == "/etc" else {}
    async with files_node.running() as engine:
        snapshots = snapshots_of(files_node)
        started = await files_node.start(PYTHON, "-I", "-c", source, **changes)
        await wait_log(files_node, started.component, "written")
        await snapshots.create(started.component, "one")
        await engine.destroy(started.component)
        store = engine.ready().layers.store
        data = f"{store.path(started.component, 'one')}/data"
        await trio.to_thread.run_sync(replace_directories, kind, data, str(victim))
        snapshots.rollback(started.component, "one")
        look = "import json, os; print(json.dumps(os.path.realpath('/etc')))"
        try:
            seen = await again(files_node, look, component=started.component)
        except PlatformError as error:  # what it is refused for, and no more
            seen = str(error)
        assert seen in ("/etc", str(victim)) or "srv" in seen or "the base's" in seen
        await snapshots.drop(started.component, "one")
        await again(files_node, look, component=started.component)
    assert os.listdir(victim) == ["hosts"]
    assert _read(victim / "hosts") == "untouched"


def replace_directories(kind: str, data: str, goal: str) -> None:
    """In the snapshot's content, put a link where a container has /etc, /usr, /run and /dev."""
    place = f"{data}.open"
    if kind == "btrfs":
        btrfs.snapshot(data, place)
        btrfs.destroy(data)
        tree = place
    else:
        os.mkdir(place)
        subprocess.run(["mount", "-o", "loop", data, place], check=True)
        tree = f"{place}/upper" if kind == "overlay-image" else f"{place}/root"
    try:
        for name in ("etc", "usr", "run", "dev", "srv"):
            path = f"{tree}/{name}"
            if os.path.lexists(path):
                os.rename(path, f"{tree}/old-{name}")
            os.symlink(goal, path)
    finally:
        if kind != "btrfs":
            subprocess.run(["umount", place], check=True)
            os.rmdir(place)
    if kind == "btrfs":
        os.rename(place, data)


async def test_the_controller_killed_at_it_leaves_a_component_that_runs(
    files_node: Any, launch: Any
) -> None:
    """Whatever the moment: the component goes on, and what is not a whole snapshot is gone."""
    started = None
    for pause_s in (0.0, 0.004, 0.01, 0.02, 0.05):
        controller = launch(files_node)
        assert await controller.read("ready")
        if started is None:
            spec = files_node.spec(PYTHON, "-I", "-c", WRITE)
            started = await controller.ask("started", {"start": msgspec.to_builtins(spec)})
            await wait_log(files_node, started["component"], "first")
        name = f"n{int(pause_s * 1000)}"
        controller.tell({"snapshot": [started["component"], name]})
        await trio.sleep(pause_s)
        controller.kill()
        async with files_node.running() as engine:
            snapshots = Snapshots(engine, SystemClock())
            await snapshots.open()
            container = engine.find(started["component"])
            assert str(container.state) == "running"
            assert not container.frozen
            place = Path(files_node.settings.state_dir, "snapshots", started["component"])
            names = _names(place)
            assert names == [info.name for info in snapshots.kept()]
    async with files_node.running() as engine:
        await engine.destroy(started["component"])
        await Snapshots(engine, SystemClock()).drop(started["component"])


def _names(place: Path) -> list[str]:
    return sorted(p.name for p in place.iterdir()) if place.is_dir() else []


def _read(path: Path) -> str:
    return path.read_text()
