"""A node of one's own for a test: unique names, everything removed afterwards.

Needs root and what `paas.container.probe` checks; on a machine without it these tests fail with the
probe's own words, which name what is missing.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import trio

from paas.container.engine import Engine
from paas.container.hooks.contract import Hook
from paas.container.messages import BACK_ENDS, ContainerSpec, Exited, Limits, Started
from paas.container.settings import ContainerSettings
from paas.real.clock import SystemClock
from paas.real.kernel_orphans import reap_orphans

_HERE = Path(__file__).parent
_COUNTER = itertools.count()
NOBODYS = 192
"""10.192.0.0 and above: clusters that other tests start at the same time choose from below, and
look at the routes that are there then, not at those that come later."""
PYTHON = "/usr/bin/python3"


@dataclass
class Node:
    """One container controller and its users' view."""

    settings: ContainerSettings
    directory: Path
    exits: list[Exited] = field(default_factory=list)
    prepared: list[tuple[str, int]] = field(default_factory=list)
    engine: Engine | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle"

    @property
    def hub(self) -> Path:
        return self.directory / "hub"

    @asynccontextmanager
    async def running(
        self, wrap_hook: Callable[[Hook], Hook] = lambda hook: hook
    ) -> AsyncIterator[Engine]:
        """The engine runs in the block; leaving it stops the engine and no container."""

        async def on_prepared(component: str, uid_base: int) -> None:
            self.prepared.append((component, uid_base))

        engine = Engine(
            self.settings,
            clock=SystemClock(),
            on_exit=self.exits.append,
            on_prepared=on_prepared,
            wrap_hook=wrap_hook,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            self.engine = engine
            yield engine
            nursery.cancel_scope.cancel()

    def new_id(self) -> str:
        return f"{next(self._numbers):040x}"

    def spec(self, *command: str, **changes: Any) -> ContainerSpec:
        given = {"component": self.new_id(), "bundle_dir": str(self.bundle)} | changes
        return ContainerSpec(command=command, hub_dir=str(self.hub), **given)

    async def start(self, *command: str, **changes: Any) -> Started:
        assert self.engine is not None
        return await self.engine.start(self.spec(*command, **changes))

    async def wait_exit(self, component: str) -> Exited:
        with trio.fail_after(30):
            while True:
                for exited in self.exits:
                    if exited.component == component:
                        return exited
                await trio.sleep(0.01)

    async def run(self, *command: str, **changes: Any) -> Exited:
        """Start, wait for the end, destroy."""
        assert self.engine is not None
        started = await self.start(*command, **changes)
        exited = await self.wait_exit(started.component)
        await self.engine.destroy(started.component)
        return exited

    async def python(self, source: str, *arguments: str, **changes: Any) -> Any:
        """Run a Python program in a container; what it prints last, read as JSON."""
        exited = await self.run(PYTHON, "-I", "-c", source, *arguments, **changes)
        assert exited.code == 0, exited
        return json.loads(exited.harness_log.strip().splitlines()[-1])

    def leftovers(self) -> dict[str, list[str]]:
        """Whatever carries this node's names anywhere on the machine."""
        state, cluster = self.settings.state_dir, self.settings.cgroup
        links = [link.name for link in Path("/sys/class/net").iterdir()]
        names = (self.settings.bridge, self.settings.link_prefix)
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
        return {
            "mounts": [
                m for m in Path("/proc/self/mountinfo").read_text().splitlines() if state in m
            ],
            "links": [n for n in links if n.startswith(names)],
            "tables": [t for t in tables.splitlines() if t.endswith(f" {self.settings.table}")],
            "groups": _groups(cluster),
            "processes": self.processes(),
            "devices": _loop_devices(state),
            "directories": [state] if os.path.exists(state) else [],
        }

    def processes(self) -> list[str]:
        """Processes in this node's groups."""
        found = []
        for process in psutil.process_iter():
            try:
                groups = Path(f"/proc/{process.pid}/cgroup").read_text()
                if f"/{self.settings.cgroup}/" in groups:
                    found.append(f"{process.pid} {process.name()}")
            except (OSError, psutil.Error):
                continue
        return found

    def container_leftovers(self) -> dict[str, list[str]]:
        """Whatever containers left on a node whose engine may run on: pools do not count."""
        state = Path(self.settings.state_dir)
        groups = [
            f"{top}/{name}"
            for top in _groups(self.settings.cgroup)
            for name in os.listdir(top)
            if os.path.isdir(f"{top}/{name}")
        ]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found = {
            "mounts": [m for m in mounts if str(state) in m],
            "groups": groups,
            "processes": self.processes(),
            "directories": [str(p) for p in (state / "containers").glob("*")],
            "records": [str(p) for p in (state / "journal").glob("*.container.json*")],
        }
        return {kind: names for kind, names in found.items() if names}


class Controller:
    """A controller in its own process."""

    def __init__(self, node: Node) -> None:
        self._node = node
        settings = msgspec.json.encode(node.settings).decode()
        self.process = subprocess.Popen(
            [sys.executable, str(_HERE / "controller_process.py"), settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def read(self, key: str) -> Any:
        assert self.process.stdout is not None
        with trio.fail_after(30):
            while True:
                line = await trio.to_thread.run_sync(self.process.stdout.readline)
                assert line, "the controller ended"
                value = json.loads(line)
                if key in value:
                    return value[key]
                assert "error" not in value, value

    def start(self, *command: str) -> None:
        self.tell({"start": msgspec.to_builtins(self._node.spec(*command))})

    async def started(self, *command: str) -> Any:
        self.start(*command)
        return await self.read("started")

    async def ask(self, key: str, command: dict[str, Any]) -> Any:
        self.tell(command)
        return await self.read(key)

    def tell(self, command: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def _groups(name: str) -> list[str]:
    """The groups of this name in every hierarchy; others come and go at the same time."""
    root = "/sys/fs/cgroup"
    tops = [f"{root}/{name}", *(f"{root}/{below}/{name}" for below in os.listdir(root))]
    return [top for top in tops if os.path.isdir(top)]


def _loop_devices(state: str) -> list[str]:
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if path.read_text().startswith(state):
                found.append(str(path))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The template process must find the tests' small harness."""
    paths = [str(_HERE.parents[2]), str(_HERE), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", ":".join(p for p in paths if p))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_back_ends: run once with each back end of containers")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test (or module) marked `both_back_ends` is run with every back end."""
    marked = metafunc.definition.get_closest_marker("both_back_ends") is not None
    if marked and "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", BACK_ENDS, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The node's back end; PAAS_TEST_BACKEND=lxc runs whatever is not marked with another one."""
    chosen = getattr(request, "param", os.environ.get("PAAS_TEST_BACKEND", BACK_ENDS[0]))
    assert chosen in BACK_ENDS
    return str(chosen)


@pytest.fixture
async def fresh_node(tmp_path: Path, backend: str) -> AsyncIterator[Node]:
    """A node that does not run yet; afterwards nothing of it is left, or the test fails."""
    name = f"t{os.getpid():x}x{next(_COUNTER):x}"
    settings = ContainerSettings(
        cluster=name,
        state_dir=str(tmp_path / "state"),
        bridge=f"b{name}"[:15],
        link_prefix=f"v{name[1:]}"[:10],
        network=f"10.{NOBODYS + os.getpid() % 60}.{next(_COUNTER) % 200}.0/24",
        harness="plain_init:main",
        pool_networks=1,
        pool_disks=1,
        backend=backend,
    )
    node = Node(settings, tmp_path)
    node.bundle.mkdir()
    node.hub.mkdir()
    for path in (tmp_path, node.bundle, node.hub):
        path.chmod(0o755)
    children = {p.pid for p in psutil.Process().children(recursive=True)}
    yield node
    engine = Engine(node.settings, clock=SystemClock(), on_exit=lambda exited: None)
    await engine.teardown_node()
    assert not any(node.leftovers().values()), node.leftovers()
    for _ in range(200):  # what was killed last may be on its way out still
        reap_orphans(children)  # as the node controller does with what a dead template leaves
        left = {p.pid for p in psutil.Process().children(recursive=True)} - children
        if not left:
            break
        await trio.sleep(0.05)
    assert not left


@pytest.fixture
async def node(fresh_node: Node) -> AsyncIterator[Node]:
    """A node whose engine runs."""
    async with fresh_node.running():
        yield fresh_node


@pytest.fixture
async def launch(fresh_node: Node) -> AsyncIterator[Callable[[Node], Controller]]:
    """Starts controllers as processes; those that still run are killed before the node goes."""
    started: list[Controller] = []

    def start(node: Node) -> Controller:
        started.append(Controller(node))
        return started[-1]

    yield start
    for controller in started:
        controller.kill()


@pytest.fixture
def small() -> Limits:
    return Limits(memory_bytes=32 << 20, cpu=1.0, pids=16, disk_bytes=8 << 20)
