"""What a component sees of the world: its own, and nothing else (platform document §4.6.4)."""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from paas.base.errors import PlatformError

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends]

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


async def test_every_namespace_differs_from_the_hosts(node: Any) -> None:
    source = f"""
import json, os
print(json.dumps({{n: os.readlink("/proc/self/ns/" + n) for n in {NAMESPACES!r}}}))
"""
    inside = await node.python(source)
    outside = {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES}
    assert {name for name in NAMESPACES if inside[name] == outside[name]} == set()


async def test_two_containers_share_no_namespace_and_no_user(node: Any) -> None:
    source = f"""
import json, os
print(json.dumps({{n: os.readlink("/proc/self/ns/" + n) for n in {NAMESPACES!r}}}))
"""
    first, second = await node.python(source), await node.python(source)
    # A namespace's number may be used again once it is gone: compare two that live together.
    one = await node.start("sleep", "60")
    two = await node.start("sleep", "60")
    for name in NAMESPACES:
        links = {os.readlink(f"/proc/{s.pid}/ns/{name}") for s in (one, two)}
        assert len(links) == 2, name
    assert abs(one.uid_base - two.uid_base) >= 65_536
    assert first.keys() == second.keys()


async def test_host_state_is_invisible(node: Any, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    source = f"""
import json, os
paths = ["/root", "/home", "/opt", "/srv", "/mnt", "/run", "/sys", "/var/lib", "/var/log"]
print(json.dumps([
    [p for p in paths if os.listdir(p)],
    [p for p in ({str(canary)!r}, "/etc/shadow", "/etc/machine-id", "/var/lib/dpkg", "/boot",
                 "/dev/kmsg", "/dev/mem", "/dev/sda", "/dev/vda", "/dev/kvm", "/dev/fuse",
                 "/dev/loop-control", "/proc/1/environ") if os.path.exists(p)],
]))
"""
    shown, found = await node.python(source)
    assert shown == []
    assert found == []


async def test_its_own_name_processes_and_users(node: Any) -> None:
    source = """
import json, os, pwd, socket
print(json.dumps({
    "host": socket.gethostname(),
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
    "processes": [p for p in os.listdir("/proc") if p.isdigit()],
    "name": pwd.getpwuid(os.getuid()).pw_name,
    "cwd": os.getcwd(),
    "address": socket.gethostbyname(socket.gethostname()),
}))
"""
    found = await node.python(source, hostname="greeter")
    assert found["host"] == "greeter"
    assert found["ids"] == [1000, 1000, 1000, []]
    assert len(found["processes"]) == 1, "hidepid: only processes of the same user"
    assert found["name"] == "component"
    assert found["cwd"] == "/app"
    assert found["address"].startswith("10.")


async def test_no_capability_and_no_way_to_one(node: Any) -> None:
    source = """
import json
lines = dict(l.split(":", 1) for l in open("/proc/self/status") if ":" in l)
keys = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"]
print(json.dumps({k: lines[k].strip() for k in keys}))
"""
    found = await node.python(source)
    assert {found[k] for k in found if k.startswith("Cap")} == {"0" * 16}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


async def test_pid_1_keeps_three_capabilities_and_is_undumpable(node: Any) -> None:
    started = await node.start("sleep", "60")
    status = Path(f"/proc/{started.pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    assert int(lines["CapEff"], 16) == 1 << 5 | 1 << 6 | 1 << 7
    assert int(lines["CapBnd"], 16) == 0
    assert lines["Uid"].split() == [str(started.uid_base)] * 4
    assert lines["NoNewPrivs"].strip() == "1"
    assert lines["Seccomp"].strip() == "2"
    assert os.stat(f"/proc/{started.pid}/mem").st_uid == 0, "undumpable: the files are root's"


async def test_descriptors_of_component_and_harness(node: Any) -> None:
    source = """
import json, os
print(json.dumps({fd: os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
                  if os.path.exists("/proc/self/fd/" + fd)}))
"""
    found = await node.python(source)
    assert {fd for fd, path in found.items() if not path.startswith("/proc/")} <= {"0", "1", "2"}
    started = await node.start("sleep", "60")
    while not any("sleep" in line for line in node.processes()):  # until pid 1 has started it
        await trio.sleep(0.01)
    folder = Path(f"/proc/{started.pid}/fd")
    targets = {entry.name: os.readlink(entry) for entry in folder.iterdir()}
    groups = [t for t in targets.values() if f"{started.component}/component/" in t]
    others = [t for n, t in targets.items() if int(n) > 2 and t not in groups]
    assert len(others) == 3, targets  # the hub's directory, the exit file, the rules
    assert any(t.endswith("/exit.json") for t in others)
    assert any("landlock" in t for t in others)


async def test_writes_stay_in_the_container(node: Any) -> None:
    (node.bundle / "data.txt").write_text("original")
    source = """
import json, os
open("/app/new.txt", "w").write("x")
open("/tmp/new.txt", "w").write("x")
results = []
for path in ("/usr/new", "/etc/new", "/new", "/dev/new", "/proc/sys/kernel/hostname"):
    try:
        open(path, "w"); results.append(path)
    except OSError:
        pass
print(json.dumps([open("/app/data.txt").read(), results]))
"""
    assert await node.python(source) == ["original", []]
    assert sorted(p.name for p in node.bundle.iterdir()) == ["data.txt"]


async def test_a_setuid_program_and_a_device_of_the_bundle_mean_nothing(node: Any) -> None:
    shell = node.bundle / "setuid"
    shell.write_bytes(Path("/usr/bin/id").read_bytes())
    shell.chmod(0o6755)
    os.mknod(node.bundle / "disk", 0o666 | stat.S_IFBLK, os.stat("/").st_dev)
    os.chmod(node.bundle / "disk", 0o666)
    source = """
import json, subprocess
try:
    open("/app/disk", "rb"); opened = True
except PermissionError:
    opened = False
print(json.dumps([subprocess.run(["/app/setuid", "-u"], capture_output=True, text=True).stdout,
                  opened]))
"""
    assert await node.python(source) == ["1000\n", False]


async def test_environment_is_only_what_was_given(node: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOST_SECRET", "canary")
    source = "import json, os; print(json.dumps(dict(os.environ)))"
    found = await node.python(source, environment={"COLOUR": "red"}, endpoints={"http": "http"})
    assert found["COLOUR"] == "red"
    assert found["PAAS_ENDPOINT_HTTP"].endswith(":8000")
    assert "HOST_SECRET" not in found
    assert "PYTHONPATH" not in found


async def test_a_component_is_announced_before_it_runs(node: Any) -> None:
    started = await node.start("true")
    assert node.prepared == [(started.component, started.uid_base)]


async def test_a_registered_base_is_the_root(fresh_node: Any, tmp_path: Path) -> None:
    base = tmp_path / "base"
    for name in ("bin", "lib64", "lib/x86_64-linux-gnu"):
        (base / name).mkdir(parents=True)
    copied = ("/bin/ls", "/lib64/ld-linux-x86-64.so.2")
    libraries = [
        "libc.so.6",
        "libselinux.so.1",
        "libpcre2-8.so.0",
    ]
    for path in copied:
        (base / path[1:]).write_bytes(Path(path).read_bytes())
        (base / path[1:]).chmod(0o755)
    for name in libraries:
        target = base / "lib/x86_64-linux-gnu" / name
        target.write_bytes(Path("/lib/x86_64-linux-gnu", name).read_bytes())
    base.chmod(0o755)
    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, bases={"own": str(base)})
    async with fresh_node.running():
        exited = await fresh_node.run("/bin/ls", "/", base="own")
    names = set(exited.harness_log.split())
    assert {"app", "bin", "dev", "lib", "lib64", "proc", "tmp"} <= names
    assert "usr" not in names


async def test_a_base_whose_directories_are_links_is_refused(
    fresh_node: Any, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "proc").symlink_to("/tmp")
    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, bases={"bad": str(base)})
    async with fresh_node.running():
        with pytest.raises(PlatformError, match="base's proc"):
            await fresh_node.start("/bin/true", base="bad")
        assert "processes" not in fresh_node.container_leftovers()


async def test_the_hub_directory_is_reached_and_is_a_root_of_its_own(node: Any) -> None:
    started = await node.start("sleep", "60")
    folder = Path(f"/proc/{started.pid}/fd")
    views = [e for e in folder.iterdir() if os.readlink(e) == "/"]
    assert len(views) == 1
    (node.hub / "harness.sock").write_text("here")
    assert (views[0] / "harness.sock").read_text() == "here"
    assert sorted(p.name for p in (views[0] / "..").iterdir()) == ["harness.sock"]
