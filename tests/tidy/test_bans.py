"""What pure files must not reach by themselves, and what nobody may write; each ban names its cure.

Pure is every file that the layout does not mark (io): decisions there depend on their arguments
only, so that they run in a simulated world (architecture, rule 6).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

# (io) by convention: shells, and code that runs on the other side of a process boundary.
IO_NAMES = {
    *("agent.py", "client.py", "main.py", "__main__.py", "server.py", "transport.py", "engine.py"),
    *("template.py", "launch.py", "actor.py", "supervisor.py", "peer.py", "link.py", "child.py"),
}
IO_FOLDERS = ("real", "sim", "testing", "cli", "sdk", "web", "assembly")

# Further (io) files, each with its reason.
IO_FILES: dict[str, str] = {
    "paas/gateway/edge.py": "listeners, the watch, the drain",
    "paas/gateway/http/connection.py": "cuts off the task that serves it",
    "paas/gateway/upstream/calls.py": "awaits answers of operations and names connections",
    "paas/gateway/upstream/forward.py": "awaits browsers and members; balance.py decides",
    "paas/gateway/component/bundle.py": "copies the installed packages into a folder",
    "paas/gateway/component/channel.py": "the gateway component's socket to its harness",
    "paas/gateway/component/live.py": "awaits the channel, the browsers, and the end of drains",
    "paas/base/locks.py": "one process uses a thing, until it ends",
    "paas/blob/store.py": "the attachments on the disk",
    "paas/bundle/archive.py": "packs and reads archives as files",
    "paas/bundle/build.py": "packs a developer's directory",
    "paas/bundle/extract.py": "unpacks onto a disk, by descriptors against races",
    "paas/bundle/files.py": "directory operations that survive hostile trees",
    "paas/bundle/references.py": "counts of references beside the blobs on the disk",
    "paas/bundle/store.py": "the blobs on the disk",
    "paas/bundle/unpacked.py": "unpacked bundles on the disk",
    "paas/container/backends/lxc.py": "starts LXC and enters what it made",
    "paas/container/backends/namespaces.py": "makes namespaces in the process it runs in",
    "paas/container/entering.py": "hands orders and pipes to the entrance process",
    "paas/container/entering_face.py": "moves bytes between streams, pipes and terminals",
    "paas/container/inside.py": "holds descriptors and a socket into a container",
    "paas/container/entrance.py": "the process that goes into containers, and what it forks",
    "paas/bundle/copying.py": "reads and writes trees, by descriptors against races",
    "paas/rpc/streams.py": "waits for credit and data; what may be sent is in stream_flow.py",
    "paas/container/fork_server.py": "starts the process that forks and sends it orders",
    "paas/container/gate.py": "tries whether a port of the machine is free",
    "paas/container/names.py": "answers questions for names over UDP",
    "paas/container/backends/spares.py": "forks that wait for their order",
    "paas/container/launcher.py": "hands a container's start to the template process",
    "paas/application/api.py": "waits for the log, and for an application to change",
    "paas/controller/adjusting.py": "one at a time for each component",
    "paas/container/living.py": "waits until everything stands still; slow changes in threads",
    "paas/container/living_face.py": "what was begun is finished whatever becomes of the asker",
    "paas/container/machine.py": "what this machine offers to containers",
    "paas/container/parts.py": "opens and closes what the engine works with",
    "paas/container/pools.py": "kernel objects prepared ahead of need",
    "paas/container/filesystems/btrfs.py": "subvolumes, in threads",
    "paas/container/filesystems/choose.py": "looks at what the node has",
    "paas/container/filesystems/images.py": "layers in images prepared ahead of need",
    "paas/container/filesystems/overlay.py": "sleeps where there is nothing to prepare",
    "paas/container/filesystems/store.py": "snapshots and orders as files",
    "paas/container/filesystems/usage.py": "asks a file system how full it is",
    "paas/container/filesystems/views.py": "mounts inside the process that is to be the container",
    "paas/container/snapshots.py": "finishes what it began, whatever becomes of the asker",
    "paas/controller/snapshot_api.py": "waits for components to end, to drop what is theirs",
    "paas/container/probe.py": "tries out what the kernel can do",
    "paas/fetcher/bundle.py": "makes the folder that a bundle is pushed from",
    "paas/gateway/acme/store.py": "keys and certificates on the disk",
    "paas/gateway/component/group.py": "asks the other gateways",
    "paas/gateway/component/join.py": "looks for programs, makes folders, tells the time",
    "paas/bundle/installed.py": "copies installed packages into a folder",
    "paas/bundle/keys.py": "keeps keys in files that only their owner can read",
    "paas/container/procedure.py": "runs hooks one after the other, shielded and in bounded time",
    "paas/container/reaping.py": "names of signals",
    "paas/container/tree.py": "mounts inside the process that is to be the container",
    "paas/container/volumes.py": "volumes' files on the disk, in threads",
    "paas/container/volume_mounts.py": "mounts inside the process that is to be the container",
    "paas/container/walls.py": "gives up the power of the process it runs in",
    "paas/container/seccomp.py": "the filter library writes to descriptors only",
    "paas/controller/api.py": "its handlers wait for what keepers make of a command",
    "paas/controller/bundles.py": "uploads go to the blob store in worker threads",
    "paas/controller/drainer.py": "waits for components to move; who may is in draining.py",
    "paas/controller/figures.py": "asks other nodes and does not wait long",
    "paas/container/base_face.py": "lays images out in worker threads",
    "paas/layers/cloning.py": "links one tree into another on the disk",
    "paas/layers/trees.py": "unpacked images on the disk",
    "paas/layers/unpack.py": "unpacks layers onto a disk, by descriptors against links",
    "paas/layers/uploads.py": "verifies uploads in worker threads",
    "paas/oci/source.py": "reads other people's images from files",
    "paas/oci/target.py": "writes images as files",
    "paas/controller/keeper.py": "waits for the life of one component; decisions are in steps.py",
    "paas/hub/mailbox_api.py": "runs what takes casts and what delivers messages",
    "paas/hub/mailbox_keeper.py": "waits for members and the log; mailbox_courier.py decides",
    "paas/hub/mailboxes.py": "runs a keeper for each mailbox of this node",
    "paas/hub/postman.py": "waits for commits; what is accepted is decided in mailbox.py",
    "paas/hub/ring_building.py": "lets others run between slices of a ring (consistent.py)",
    "paas/controller/placer.py": "waits for something to place; where is in placing.py",
    "paas/harness/loop.py": "the event loop of pid 1, without trio",
    "paas/hub/top.py": "samples once a second, asks other nodes and does not wait long",
    "paas/controller/alarms.py": "sleeps for those who wait for a time",
    "paas/identity/tls.py": "the ssl library reads keys from files only",
    "paas/logs/far.py": "asks the other nodes' hubs, and waits for them in bounded time",
    "paas/node/granting.py": "waits for rounds of the log; who is granted what is in leases.py",
    "paas/node/membership_keeper.py": "waits for changes of members; which is in membership.py",
    "paas/node/presence.py": "sends renewals and waits; what is due is in leases.py",
    "paas/raft/alarm.py": "the task that drives the replica waits here, for a call or a timer",
    "paas/raft/leading.py": "who asks the leader waits here for the round",
    "paas/raft/library.py": "checks the installed library's files before it is used",
    "paas/raft/log.py": "drives the replica: steps, syncs in a thread, sleeps",
    "paas/raft/proposals.py": "who proposed waits here for the outcome",
    "paas/rpc/dispatch.py": "starts handlers as tasks of the connection",
    "paas/rpc/http_rpc.py": "a POST waits for its answer; a WebSocket ends with its token",
    "paas/rpc/http_server.py": "reads requests and writes answers in bounded time",
    "paas/rpc/mesh.py": "dials, accepts and waits; judging greetings is in mesh_hello.py",
    "paas/rpc/mesh_channels.py": "reads the connections of the mesh",
    "paas/rpc/readers.py": "waits for many sockets at once; digesting is in peer.py",
    "paas/rpc/tls_link.py": "drives a socket and its encryption",
    "paas/rpc/websocket.py": "reads and writes messages in bounded time",
    "paas/telemetry/sink.py": "where log lines leave the process, and their clock",
}

BANNED_IMPORTS = {
    "trio": "agent.py or another (io) file",
    "asyncio": "trio, in an (io) file",
    "threading": "an actor",
    "multiprocessing": "ports.Processes",
    "concurrent": "an actor",
    "queue": "base.actor",
    "socket": "rpc.transport",
    "select": "trio, in an (io) file",
    "ssl": "identity.tls",
    "signal": "an (io) file",
    "time": "ports.Clock",
    "random": "ports.Entropy",
    "secrets": "ports.Entropy",
    "uuid": "base.ids",
    "os": "ports.Files, or posixpath for names",
    "io": "bytes, or ports.Files",
    "pathlib": "ports.Files, or pathlib.PurePosixPath for names",
    "shutil": "ports.Files",
    "tempfile": "ports.Files",
    "glob": "ports.Files",
    "mmap": "ports.Files",
    "fcntl": "an (io) file",
    "ctypes": "a file in real/",
    "subprocess": "ports.Processes",
    "pickle": "wire.codec",
    "http": "rpc",
    "urllib.request": "rpc",
}
HARMLESS = {("pathlib", "PurePosixPath"), ("pathlib", "PurePath"), ("http", "HTTPStatus")}
BANNED_CALLS = {
    "open": "ports.Files",
    "input": "parameters",
    "datetime.now": "ports.Clock",
    "datetime.utcnow": "ports.Clock",
    "datetime.today": "ports.Clock",
    "date.today": "ports.Clock",
}

# Written in two halves, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
PRIVATE = re.compile(r"(?<![\w}])/" r"root/\w")
# Assembly speaks to whoever started the process, before there is a log.
PRINTING = ("paas/cli/", "paas/sdk/", "paas/assembly/", "examples/", "bench/", "tests/")
TEXT_KINDS = {".py", ".md", ".toml", ".sh", ".txt", ".js", ".service", ".yml", ""}


def is_io(path: str) -> bool:
    parts = path.split("/")
    return parts[-1] in IO_NAMES or parts[1] in IO_FOLDERS or path in IO_FILES


def pure_findings(module: Any) -> list[str]:
    """What a pure file imports or calls, with the cure."""
    found = []
    for imported in module.imports:
        names = (imported.module, imported.module.split(".")[0])
        cure = next((BANNED_IMPORTS[name] for name in names if name in BANNED_IMPORTS), "")
        if cure and (imported.module, imported.name) not in HARMLESS:
            found.append(f"{module.path}:{imported.line}: {imported.module} -> use {cure}")
    for node in module.nodes:
        if isinstance(node, ast.Call):
            called = module.called(node.func)
            cure = next((c for name, c in BANNED_CALLS.items() if _is(called, name)), "")
            if cure:
                found.append(f"{module.path}:{node.lineno}: {called}() -> use {cure}")
    return found


def _is(called: str, name: str) -> bool:
    return called == name or ("." in name and called.endswith("." + name))


def unfinished_findings(module: Any) -> list[str]:
    """Work left open, and tests that do not run."""
    found = [
        f"{module.path}:{number}: {line.strip()[:60]}"
        for number, line in enumerate(module.text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    for node in module.nodes:
        if isinstance(node, ast.Name) and node.id == "NotImplemented" + "Error":
            found.append(f"{module.path}:{node.lineno}: {node.id}")
        if isinstance(node, ast.Attribute) and re.fullmatch(
            r"(pytest|unittest)(\.mark)?\.(skip|skipif|skipIf|skipUnless|xfail|importorskip)",
            module.called(node),
        ):
            found.append(f"{module.path}:{node.lineno}: {ast.unparse(node)}")
    return found


def print_findings(module: Any) -> list[str]:
    return [
        f"{module.path}:{node.lineno}: print -> use telemetry.log"
        for node in module.nodes
        if isinstance(node, ast.Call) and module.called(node.func) in ("print", "pprint")
    ]


def raising_findings(module: Any) -> list[str]:
    """Up to Python 3.11.3 (Debian 12 has 3.11.2) it arrives wrapped in a nameless group."""
    return [
        f"{module.path}:{node.lineno}: raise within except* -> remember it, raise it afterwards"
        for group in module.nodes
        if isinstance(group, ast.TryStar)
        for handler in group.handlers
        for node in ast.walk(handler)
        if isinstance(node, ast.Raise) and node.exc is not None
    ]


def private_findings(path: str, text: str) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:80]}"
        for number, line in enumerate(text.splitlines(), 1)
        if PRIVATE.search(line)
    ]


def test_pure_files_reach_nothing_by_themselves(modules: list[Any]) -> None:
    found = [text for m in modules if not is_io(m.path) for text in pure_findings(m)]
    assert not found, "\n" + "\n".join(found)


def test_every_exception_is_a_file_that_needs_it(modules: list[Any]) -> None:
    needed = {m.path for m in modules if pure_findings(m)}
    assert not set(IO_FILES) - needed
    assert all(IO_FILES.values())


def test_nobody_uses_pickle_mocks_or_uuid(scripts: list[Any]) -> None:
    banned = {"pickle", "cPickle", "marshal", "shelve", "dill", "mock", "unittest.mock"}
    found = [
        f"{script.path}:{i.line}: {i.module}"
        for script in scripts
        for i in script.imports
        if i.module in banned or (i.module, i.name) == ("unittest", "mock")
    ]
    assert not found, "\n" + "\n".join(found)


def test_nothing_is_left_unfinished_and_no_test_is_switched_off(scripts: list[Any]) -> None:
    found = [text for script in scripts for text in unfinished_findings(script)]
    assert not found, "\n" + "\n".join(found)


def test_only_tools_for_people_print(scripts: list[Any]) -> None:
    silent = [s for s in scripts if not s.path.startswith(PRINTING)]
    found = [text for script in silent for text in print_findings(script)]
    assert not found, "\n" + "\n".join(found)


def test_nobody_raises_anew_within_except_star(scripts: list[Any]) -> None:
    found = [text for script in scripts for text in raising_findings(script)]
    assert not found, "\n" + "\n".join(found)


def test_no_file_names_a_private_path(root: Path, scripts: list[Any]) -> None:
    folders = ("paas", "tests", "docs", "examples", "bench", "scripts", ".ci", "changes")
    files = [p for name in folders for p in (root / name).rglob("*") if p.is_file()]
    files += [p for p in root.iterdir() if p.is_file()]
    found = [
        text
        for path in files
        if path.suffix in TEXT_KINDS and "__pycache__" not in path.parts and path.name != ".git"
        for text in private_findings(
            path.relative_to(root).as_posix(), path.read_text(errors="replace")
        )
        if path != Path(__file__)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "import trio",
        "import os.path",
        "from time import monotonic",
        "import random",
        "from uuid import uuid4",
        "from pathlib import Path",
        "import pickle",
        "open('x')",
        "import datetime\ndatetime.datetime.now()",
        "def f():\n    import socket",
    ],
)
def test_a_reach_outside_is_found(source: Any, text: str) -> None:
    assert len(pure_findings(source("paas/hub/groups.py", text))) == 1


def test_pure_names_of_paths_are_fine(source: Any) -> None:
    text = "from pathlib import PurePosixPath\nimport posixpath\nself.open('x')\n"
    assert pure_findings(source("paas/hub/groups.py", text)) == []


@pytest.mark.parametrize(
    ("path", "io"),
    [
        ("paas/hub/agent.py", True),
        ("paas/hub/groups.py", False),
        ("paas/real/clock.py", True),
        ("paas/base/supervisor.py", True),
        ("paas/base/supervision.py", False),
    ],
)
def test_io_files_are_known_by_name(path: str, io: bool) -> None:
    assert is_io(path) is io


@pytest.mark.parametrize(
    "text",
    [
        "# TO" + "DO: later",
        "raise NotImplemented" + "Error",
        "import pytest\n@pytest.mark." + "skip\ndef f(): pass",
        "import pytest\npytest." + "importorskip('x')",
        "import pytest\npytestmark = pytest.mark.x" + "fail",
    ],
)
def test_unfinished_work_is_found(source: Any, text: str) -> None:
    assert len(unfinished_findings(source("paas/x.py", text))) == 1


def test_a_print_is_found(source: Any) -> None:
    assert len(print_findings(source("paas/hub/x.py", "print(1)"))) == 1


def test_a_raise_within_except_star_is_found(source: Any) -> None:
    text = "try:\n    f()\nexcept* ValueError as group:\n    raise KeyError(str(group))\n"
    assert len(raising_findings(source("paas/x.py", text))) == 1


def test_a_private_path_is_found() -> None:
    assert private_findings("x", "look in /root" + "/x") != []
    assert private_findings("x", "mount {base}/upper, hide /root") == []
