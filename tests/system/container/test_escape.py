"""The escape battery: every attempt is answered by a refusal, and the battery is not blind.

Source: reliability plan, container escape battery.  The probes run inside as the component's user
and as user 0 of the container; the control runs them with the host's power in namespaces of its own
and must see them succeed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyseccomp
import pytest
import trio

pytestmark = pytest.mark.system

_PROBES = Path(__file__).with_name("escape_probes.py").read_text()
_NAMES = set(re.findall(r'(?:syscall_probe\("\w+",|\bcall\()\s*"(\w+)"', _PROBES))
REFUSALS = {"EPERM", "EACCES", "ENOSYS", "ENOENT", "EROFS"}
CALLS_REFUSED_BY_FILTER = {"EPERM", "ENOSYS"}

# What user 0 of the container may do within its own: it is the harness's user.
_OWN_OF_ROOT = {"signal_pid_1", "root_of_pid_1"}

# Safe to let succeed in throw-away namespaces of the test machine.
CONTROL = [
    "mount_tmpfs",
    "bind_root",
    "fsopen",
    "open_tree",
    "chroot",
    "unshare_user",
    "unshare_mount",
    "unshare_network",
    "unshare_time",
    "clone_new_user",
    "clone_new_pid",
    "clone3_new_user",
    "setns_own",
    "raw_socket",
    "packet_socket",
    "packet_filter_netlink",
    "low_port",
    "sethostname",
    "keyctl_session",
    "kernel_log",
    "personality",
    "make_device",
    "write_host_name_by_proc",
    "write_network_setting",
    "real_time_scheduling",
    "highest_priority",
    "become_another_user",
    "take_groups",
    "find_control_groups",
    "raise_own_memory_limit",
    "adjtimex",
    "overwrite_program_of_the_base",
    "remount_by_write_to_dev",
]


def numbers() -> str:
    found = {n: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, n) for n in _NAMES}
    return json.dumps(found)


@pytest.mark.parametrize("user", ["component", "root"])
async def test_every_probe_is_refused(node: Any, user: str) -> None:
    root = user == "root"
    found = await node.python(
        _PROBES, numbers(), "[]", configuration={"root": True} if root else None
    )
    held = {name for name, answer in found.items() if answer in REFUSALS}
    allowed = _OWN_OF_ROOT if root else set()
    breaches = {name: answer for name, answer in found.items() if name not in held | allowed}
    assert breaches == {}
    assert len(held) >= 60


async def test_the_filter_itself_refuses(node: Any) -> None:
    """Not only a missing capability: as user 0, calls of the deny list still answer EPERM."""
    found = await node.python(_PROBES, numbers(), "[]", configuration={"root": True})
    listed = re.findall(r'syscall_probe\("(\w+)"', _PROBES)
    answers = {name: found[name] for name in listed}
    assert {n: a for n, a in answers.items() if a not in CALLS_REFUSED_BY_FILTER} == {}


async def test_the_probes_see_a_breach_where_there_is_one(tmp_path: Path) -> None:
    script = tmp_path / "probes.py"
    script.write_text(_PROBES)
    command = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--mount-proc"]
    command += ["/usr/bin/python3", str(script), numbers()]
    # The host's own terminal, clock, and files are not touched: only probes of the list run, and
    # a private /dev takes what one of them creates.
    wrapped = ["sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    command[8:8] = wrapped
    done = await trio.run_process([*command, json.dumps(CONTROL)], capture_stdout=True)
    found = json.loads(done.stdout)
    seen = [name for name, answer in found.items() if answer == "ok"]
    assert len(seen) >= 25, {n: a for n, a in found.items() if a != "ok"}


async def test_a_canary_of_the_host_and_of_a_neighbour_stays_unread(
    node: Any, tmp_path: Path
) -> None:
    canary = tmp_path / "canary-of-the-host"
    canary.write_text("canary")
    await node.start("sh", "-c", "echo canary > /app/canary-of-the-neighbour; sleep 60")
    source = """
import json, os
found = []
for folder, _, files in os.walk("/", onerror=None):
    if folder.startswith(("/proc/self/task", "/usr")):
        continue
    found += [os.path.join(folder, f) for f in files if f.startswith("canary-of-")]
print(json.dumps(found))
"""
    assert await node.python(source) == []
