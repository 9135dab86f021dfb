"""What every file system keeps, run on all of them."""

from __future__ import annotations

import errno
import ipaddress
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.filesystems.choose import choose_name
from paas.container.filesystems.usage import disk_usage
from paas.container.hooks.contract import FailHook, InjectedFailure
from tests.system.container.filesystems.files_tools import read, wait_log

pytestmark = pytest.mark.system

PYTHON = "/usr/bin/python3"

LOOK = """
import json, os
def attempt(work):
    try:
        return work()
    except OSError as exc:
        return exc.errno
def write(path):
    with open(path, "w") as file:
        file.write("mine")
    return "written"
print(json.dumps({
    "bundle": open("/app/program").read(),
    "deep": open("/app/inside/deep").read(),
    "link": os.readlink("/app/link"),
    "change": attempt(lambda: write("/app/program")),
    "add": attempt(lambda: write("/app/added")),
    "app": sorted(os.listdir("/app")),
    "usr": attempt(lambda: write("/usr/mine")),
    "host": open("/etc/hostname").read().strip() == os.uname().nodename,
}))
"""

ADD = """
import json
with open("/app/added", "w") as file:
    file.write("x" * 100_000)
print(json.dumps("written"))
"""

FILL = """
import errno, json, os
made, code = 0, 0
try:
    with open("/app/big", "wb", buffering=0) as file:
        while made < 64 << 20:
            made += file.write(os.urandom(1 << 16))
        os.fsync(file.fileno())
except OSError as exc:
    code = exc.errno
print(json.dumps([made, code]))
"""

MANY = """
import json, os
made, code = 0, 0
try:
    os.mkdir("/app/many")
    while made < 60_000:
        with open(f"/app/many/{made}", "w") as file:
            file.write("x" * 3000)
        made += 1
    os.sync()
except OSError as exc:
    code = exc.errno
print(json.dumps([made, code]))
"""

WAIT = """
import os, sys, time
with open("/app/data", "wb") as file:
    file.write(os.urandom(int(sys.argv[1])))
    os.fsync(file.fileno())
print("written", file=sys.stderr, flush=True)
time.sleep(600)
"""


@pytest.fixture
def bundle(files_node: Any) -> Path:
    path: Path = files_node.bundle
    (path / "program").write_text("the program")
    (path / "inside").mkdir()
    (path / "inside" / "deep").write_text("deep")
    (path / "link").symlink_to("program")
    for name in ("program", "inside/deep"):
        (path / name).chmod(0o644)
    (path / "inside").chmod(0o755)
    return path


async def test_the_bundle_is_seen_and_stays_as_it_is(files_node: Any, bundle: Path) -> None:
    async with files_node.running():
        for _ in range(2):  # the second finds nothing of what the first one wrote
            seen = await files_node.python(LOOK)
            assert seen["bundle"] == "the program"
            assert seen["deep"] == "deep"
            assert seen["link"] == "program"
            assert seen["change"] in (errno.EACCES, errno.EROFS, errno.EPERM)
            assert seen["add"] == "written"
            assert seen["app"] == ["added", "inside", "link", "program"]
            assert seen["usr"] in (errno.EACCES, errno.EROFS)
            assert seen["host"] is True
    assert sorted(os.listdir(bundle)) == ["inside", "link", "program"]
    assert read(bundle / "program") == "the program"


async def test_a_full_disk_is_the_components_own(files_node: Any, small: Any) -> None:
    async with files_node.running():
        limits = replace(small, memory_bytes=128 << 20)
        made, code = await files_node.python(FILL, limits=limits)
        assert code in (errno.ENOSPC, errno.EDQUOT)
        assert 4 << 20 < made <= limits.disk_bytes
        assert await files_node.python(ADD) == "written"


async def test_many_small_files_meet_a_bound(files_node: Any, small: Any) -> None:
    async with files_node.running():
        made, code = await files_node.python(MANY, limits=replace(small, memory_bytes=256 << 20))
        assert code in (errno.ENOSPC, errno.EDQUOT)
        assert made < 60_000


async def test_what_is_used_is_told(files_node: Any) -> None:
    written = 3 << 20
    async with files_node.running() as engine:
        started = await files_node.start(PYTHON, "-I", "-c", WAIT, str(written))
        await wait_log(files_node, started.component, "written")
        record = engine.find(started.component).context.record
        with trio.fail_after(60):
            while (usage := disk_usage(started.pid, record)).used_bytes < written:
                await trio.to_thread.run_sync(os.sync)
                await trio.sleep(0.2)
        assert usage.used_bytes < written + (4 << 20)
        assert usage.bytes_max == record.disk_bytes
        await engine.destroy(started.component)
        assert disk_usage(started.pid, record).used_bytes == 0


async def test_a_start_that_fails_leaves_no_files(files_node: Any) -> None:
    def wrap(hook: Any) -> Any:
        return FailHook(hook, "prepare, after") if hook.name == "network" else hook

    async with files_node.running(wrap):
        with pytest.raises(InjectedFailure):
            await files_node.start(PYTHON)
        assert "directories" not in files_node.container_leftovers()


async def test_two_layers_of_a_base_are_one_tree(
    files_node: Any, kind: str, tmp_path: Path
) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    make_base(lower)
    (lower / "etc" / "both").write_text("lower")
    (lower / "etc" / "gone").write_text("lower")
    for name in ("", "etc"):
        (upper / name).mkdir(mode=0o755)
    (upper / "etc" / "both").write_text("upper")
    os.mknod(upper / "etc" / "gone", 0o020000, 0)
    async with files_node.running() as engine:
        base = engine.ready().base
        stacked = replace(
            base,
            name="stacked",
            lower=str(upper),
            lowers=(str(upper), str(lower)),
            binds=base.binds,
        )
        engine.ready().bases["stacked"] = stacked
        source = (
            "import json, os; print(json.dumps([open('/etc/both').read(), os.listdir('/etc')]))"
        )
        if kind.startswith("binds"):
            with pytest.raises(PlatformError) as refused:
                await files_node.start(PYTHON, "-c", source, base="stacked")
            assert "several layers" in str(refused.value)
            return
        both, names = await files_node.python(source, base="stacked")
        assert both == "upper"
        assert "gone" not in names


@pytest.mark.parametrize("link", ["", "../run/resolve/stub.conf"])
async def test_the_node_is_asked_for_names_whatever_the_base_says(
    files_node: Any, link: str, tmp_path: Path
) -> None:
    lower = tmp_path / "lower"
    make_base(lower)
    if link:
        (lower / "etc" / "resolv.conf").symlink_to(link)
    else:
        (lower / "etc" / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    async with files_node.running() as engine:
        base = engine.ready().base
        engine.ready().bases["other"] = replace(base, name="other", lower=str(lower), lowers=())
        source = "import json; print(json.dumps(open('/etc/resolv.conf').read().split()[:2]))"
        asked = await files_node.python(source, base="other", egress=("world.example:80",))
        network = ipaddress.ip_network(files_node.settings.network)
        assert asked == ["nameserver", str(network[1])]


async def test_nothing_secret_reaches_a_disk(files_node: Any, place: Path) -> None:
    """Configuration, environment, /run, /tmp and /dev/shm are memory."""
    secret = "canary-" + os.urandom(12).hex()
    source = (
        "import os, sys, time\n"
        "for place in ('/tmp', '/dev/shm'):\n"
        "    open(f'{place}/token', 'w').write(os.environ['TOKEN'])\n"
        "print('written', file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    async with files_node.running() as engine:
        started = await files_node.start(
            PYTHON,
            "-I",
            "-c",
            source,
            environment={"TOKEN": secret},
            configuration={"token": secret},
        )
        await wait_log(files_node, started.component, "written")
        await trio.to_thread.run_sync(os.sync)
        mounts = read(Path(f"/proc/{started.pid}/mountinfo")).splitlines()
        kinds = {m.split()[4]: m.split(" - ")[1].split()[0] for m in mounts}
        assert {kinds[p] for p in ("/run", "/tmp", "/dev/shm")} == {"tmpfs"}
        record = engine.find(started.component).context.record
        places = [files_node.settings.state_dir, *([record.device] if record.device else [])]
        assert search(secret, *places) == ""
        await trio.to_thread.run_sync(Path(place, "found").write_text, secret)
        assert search(secret, str(place)) != ""  # it would have been found
        await engine.destroy(started.component)


async def test_a_node_without_btrfs_refuses_it(tmp_path: Path) -> None:
    assert choose_name("auto", str(tmp_path)) == "overlay"
    with pytest.raises(PlatformError) as refused:
        choose_name("btrfs", str(tmp_path / "state"))
    assert refused.value.code == "unsupported"


def search(word: str, *places: str) -> str:
    """Names of the files and devices that hold the word."""
    found = subprocess.run(["grep", "-rlF", word, *places], capture_output=True, text=True)
    return found.stdout


def make_base(path: Path) -> None:
    """A base with nothing but the names that every base has; programs come from the host's."""
    for name in ("", "app", "dev", "etc", "proc", "run", "sys", "tmp", "usr", "var", "var/tmp"):
        (path / name).mkdir(mode=0o755)
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (path / name).symlink_to(Path("/", name).readlink())
        else:
            (path / name).mkdir()
