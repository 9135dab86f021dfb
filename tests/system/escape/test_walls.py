"""What the walls leave a component: what its manifest grants, and all that programs need."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container import limits, powers
from tests.system.escape import battery
from tests.system.escape.host_side import bundle

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends]

_ALL = tuple(powers.GRANTABLE)

# What the capabilities are for, of all that the battery tries.
_GRANTED = {
    "low_port": {"ok"},
    "raise_ambient_capability": {"ok"},  # one that it has
    "inheritable_capabilities": {"some"},
    "create_in_root": {"ok", "EACCES"},
    "change_mode_of_the_root": {"ok", "EPERM"},
}

_STATUS = """
import json, os, socket
lines = dict(l.split(":", 1) for l in open("/proc/self/status") if ":" in l)
found = {k: int(lines["Cap" + k], 16) for k in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
try:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 443))
    port = "open"
except PermissionError:
    port = "closed"
open("/app/mine", "w").close()
try:
    os.chown("/app/mine", 1234, 1234)
    owner = os.stat("/app/mine").st_uid
except PermissionError:
    owner = "kept"
print(json.dumps([found, port, owner]))
"""


async def test_capabilities_are_those_of_the_manifest(node: Any) -> None:
    none, port, owner = await node.python(_STATUS)
    assert set(none.values()) == {0}
    assert (port, owner) == ("closed", "kept")
    some, port, owner = await node.python(_STATUS, capabilities=("CHOWN", "NET_BIND_SERVICE"))
    assert set(some.values()) == {1 << 0 | 1 << 10}
    assert (port, owner) == ("open", 1234)


async def test_others_are_refused_before_anything_is_made(node: Any) -> None:
    with pytest.raises(PlatformError, match="capabilities") as caught:
        await node.start("true", capabilities=("SYS_ADMIN",))
    assert caught.value.code == "invalid"
    assert node.engine.list() == []


async def test_all_capabilities_that_there_are_open_nothing_else(node: Any) -> None:
    bundle(node.bundle)
    probes = [p for p in battery.PROBES if p.name in battery.INSIDE_ONLY]
    facts = {"canary": str(node.directory / "bundle" / "inside.py")}
    found = await battery.inside(node, [p.name for p in probes], facts, capabilities=_ALL)
    other = {
        p.name: found[p.name]
        for p in probes
        if found[p.name] not in _GRANTED.get(p.name, p.expected["component"])
    }
    assert other == {}
    assert found["low_port"] == "ok"


_ORDINARY = """
import ctypes, errno, json, mmap, os, pty, signal, socket, subprocess, tempfile, threading
done = {}
def tried(name, attempt):
    try:
        done[name] = attempt() or "ok"
    except OSError as exc:
        done[name] = errno.errorcode.get(exc.errno, str(exc))
def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)
def across():
    os.makedirs("/app/a/b", exist_ok=True)
    write("/app/one")
    os.rename("/app/one", "/app/a/b/one")
    os.link("/app/a/b/one", "/app/two")
    os.symlink("one", "/app/a/b/three")
    os.truncate("/app/two", 0)
def own_program():
    write("/tmp/run", "#!/bin/sh\\nexit 7\\n")
    os.chmod("/tmp/run", 0o755)
    return str(subprocess.run(["/tmp/run"]).returncode)
def own_socket():
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("/tmp/socket")
        server.listen()
        client.connect("/tmp/socket")
def abstract():
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("\\0mine")
        server.listen()
        client.connect("\\0mine")
def child_signal():
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, 15)
    os.waitpid(pid, 0)
def queue():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mq_open(b"/queue", os.O_CREAT | os.O_RDWR, 0o600, None) < 0:
        raise OSError(ctypes.get_errno(), "")
    libc.mq_unlink(b"/queue")
def reopened_output():
    shown = subprocess.run(["sh", "-c", "echo fine > /dev/stdout"], capture_output=True)
    return shown.stdout.decode().strip()
def terminal():
    return str(os.get_terminal_size(os.openpty()[1]).columns)
def thread_name():
    thread = threading.Thread(target=threading.Event().wait, args=(1,), daemon=True)
    thread.start()
    ctypes.CDLL(None).prctl(15, b"named", 0, 0, 0)
def program_rules():
    if ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1) < 0:
        raise OSError(ctypes.get_errno(), "")
for name, attempt in list(globals().items()):
    if callable(attempt) and getattr(attempt, "__module__", "") == "__main__":
        if name not in ("tried", "write"):
            tried(name, attempt)
for path in ("/app/file", "/tmp/file", "/dev/shm/file", "/dev/null", "/var/tmp/file"):
    tried(path, lambda path=path: write(path))
print(json.dumps(done))
"""

_EXPECTED = {
    "across": "ok",
    "own_program": "7",
    "own_socket": "ok",
    "abstract": "ok",
    "child_signal": "ok",
    "queue": "ok",
    "reopened_output": "fine",
    "terminal": "0",
    "thread_name": "ok",
    "program_rules": "ok",
    "/app/file": "ok",
    "/tmp/file": "ok",
    "/dev/shm/file": "ok",
    "/dev/null": "ok",
}


async def test_what_ordinary_programs_do_still_works(node: Any) -> None:
    found = await node.python(_ORDINARY)
    assert {name: found[name] for name in _EXPECTED} == _EXPECTED


async def test_resource_limits_and_keyring_are_its_own(node: Any) -> None:
    source = """
import json, resource
names = ("CORE", "NOFILE", "MEMLOCK", "MSGQUEUE", "SIGPENDING", "NPROC", "RTPRIO", "NICE")
found = {n: resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in names}
print(json.dumps(found))
"""
    found = await node.python(source)
    wanted = {
        "CORE": 0,
        "NOFILE": limits.OPEN_FILES,
        "MEMLOCK": limits.LOCKED_BYTES,
        "MSGQUEUE": limits.MESSAGE_QUEUE_BYTES,
        "SIGPENDING": limits.PENDING_SIGNALS,
        "NPROC": limits.PIDS_MAX,
        "RTPRIO": 0,
        "NICE": 0,
    }
    assert {name: hard for name, (_, hard) in found.items() if not 0 <= hard <= wanted[name]} == {}
    assert found["CORE"] == [0, 0]


async def test_the_second_wall_stands_where_the_first_is_down(node: Any) -> None:
    """A file of /proc that permissions and mounts would let user 0 write."""
    source = """
import json
try:
    open("/proc/self/comm", "w").write("x")
    print(json.dumps("written"))
except PermissionError:
    print(json.dumps("refused"))
"""
    assert await node.python(source, configuration={"root": True}) == "refused"
    bare = {"root": True, "without_rules": True}
    assert await node.python(source, configuration=bare) == "written"


_CONFINED = """
import os, sys
lines = dict(l.split(":", 1) for l in open("/proc/self/status") if ":" in l)
def refused(path, how):
    try:
        os.close(os.open(path, how))
    except PermissionError:
        return True
    return False
wrong = [
    name
    for name, fine in {
        "capabilities": int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 1,
        "filter": lines["Seccomp"].strip() == "2",
        "privileges": lines["NoNewPrivs"].strip() == "1",
        "rules": refused("/proc/self/comm", os.O_WRONLY),
        "user": os.getresuid() == (1000,) * 3 and os.getgroups() == [],
        "descriptors": set(os.listdir("/proc/self/fd")) <= {"0", "1", "2", "3", "4"},
    }.items()
    if not fine
]
sys.exit(40 + len(wrong) if wrong else 0)
"""


async def test_the_real_harness_leaves_the_same_walls(fresh_node: Any) -> None:
    changed = replace(fresh_node.settings, harness="paas.harness.main:main")
    fresh_node.settings = changed
    async with fresh_node.running():
        exited = await fresh_node.run(
            battery.PYTHON, "-c", _CONFINED, protocol="none", capabilities=("CHOWN",)
        )
    assert exited.reason == "normal", exited
