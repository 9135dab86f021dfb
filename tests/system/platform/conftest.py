"""A whole platform for these tests: real processes, real containers, driven as a user drives it.

`platform` is a cluster that the tests of a session share; what a test creates is destroyed after
it.  `fresh` is one of its own, for tests that kill, fill or end it.  Each lives in a temporary
state directory, and so has links, control groups and sockets of its own: other clusters on the
machine are not touched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.node.settings import runtime_of, short_name
from paas.testing.dev_cluster import when_back
from paas.testing.leftovers import picture

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
EXAMPLES = ROOT / "examples"
COMPONENTS = HERE / "components"
PATIENCE_S = 45.0
"""For what must happen, on a machine that does much else at the same time."""


class Done:
    """What a command line has said."""

    def __init__(self, finished: subprocess.CompletedProcess[str]) -> None:
        self.status = finished.returncode
        self.out = finished.stdout
        self.err = finished.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"


class Platform:
    """One cluster, by its state directory."""

    def __init__(self, state: Path, home: Path) -> None:
        self.state = state
        self.home = home
        self.runtime = Path(runtime_of(os.path.realpath(state)))
        self.made: list[str] = []
        """What a fixture has created in it."""
        self._connection: Connection | None = None
        self._sources = 0

    # -- the command line ------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PAAS_", "XDG_"))}
        return {
            **kept,
            "HOME": str(self.home),
            "PAAS_STATE": str(self.state),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }

    def spawn(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """A `paas` command that goes on while the test does."""
        return subprocess.Popen(
            [sys.executable, "-m", "paas.cli", *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def run(self, *words: str, status: int | None = 0, timeout_s: float = 90.0) -> Done:
        """A `paas` command, and its end with this status (None: any)."""
        done = Done(
            subprocess.run(
                [sys.executable, "-m", "paas.cli", *words],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        )
        assert status is None or done.status == status, f"paas {' '.join(words)}: {done!r}"
        assert "Traceback" not in done.err, done.err
        return done

    def start(self) -> Done:
        return self.run("dev", "--detach")

    def down(self) -> None:
        self.disconnect()
        self.run("down", "--purge", "--yes", timeout_s=200)

    # -- the API ---------------------------------------------------------------------------------

    def connect(self, *, binary: bool = False) -> Connection:
        return connect(str(self.runtime / "api.sock"), expected=True, binary=binary)

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def api(self, method: str, /, *, timeout_s: float = 30.0, **params: Any) -> Any:
        """A request of the API over one connection that is kept, and its result."""
        if self._connection is None:
            self._connection = self.connect()
        try:
            return self._connection.call(method, params, timeout_s=timeout_s)
        except PlatformError as error:
            if error.code in ("unavailable", "unknown-outcome", "timeout"):
                self.disconnect()
            raise

    def raw(self) -> socket.socket:
        """A bare connection to the operators' socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE_S)
        sock.connect(str(self.runtime / "api.sock"))
        return sock

    def call(self, component: str, what: str, /, *, timeout_s: float = 30.0, **inputs: Any) -> Any:
        """Run an operation of a component; its outputs."""
        params = {"target": component, "operation": what, "inputs": inputs}
        answer = when_back(lambda: self.api("hub.call", timeout_s=timeout_s, **params))
        return answer["outputs"]

    # -- types and components --------------------------------------------------------------------

    def push(self, source: Path | str) -> str:
        """Push a directory, or one of the components of these tests; `name@version`."""
        directory = COMPONENTS / source if isinstance(source, str) else source
        return self.run("push", str(directory), "-o", "name").out.strip()

    def source(
        self,
        name: str,
        command: list[str],
        *,
        version: str = "1.0.0",
        protocol: str = "none",
        text: str = "",
        files: dict[str, str] | None = None,
        limits: str = "",
        supervision: str = "",
    ) -> Path:
        """A directory with a component's source, written for one test."""
        self._sources += 1
        directory = self.home / "sources" / f"{name}-{self._sources}"
        directory.mkdir(parents=True)
        lines = [
            "[component]",
            f'name = "{name}"',
            f'version = "{version}"',
            f"command = {json.dumps(command)}",
            f'protocol = "{protocol}"',
            text,
            "[limits]",
            limits or 'memory = "64M"\npids = 32\ndisk = "16M"',
            "[supervision]",
            supervision,
        ]
        (directory / "component.toml").write_text("\n".join(lines) + "\n")
        for path, content in (files or {}).items():
            (directory / path).write_text(content)
        return directory

    def create(self, kind: str, /, **params: Any) -> str:
        """One component; its id."""
        created: list[str] = self.api("controller.create", type=kind, **params)["components"]
        assert len(created) == 1
        return created[0]

    def component(self, target: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api("controller.component", component=target)
        return found

    def components(self, **more: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("controller.components", **more)["components"]
        return found

    def destroy(self, target: str, grace: float = 0.0) -> None:
        self.api("controller.destroy", component=target, grace=grace, timeout_s=60)

    def destroy_all(self) -> None:
        for component in self.components():
            with contextlib.suppress(PlatformError):
                self.destroy(component["id"])

    def in_state(self, target: str, *states: str) -> dict[str, Any]:
        """The component, once it is in one of these states."""
        last: dict[str, Any] = {}

        def reached() -> bool:
            nonlocal last
            last = self.component(target)
            return last["state"] in states

        until(reached, lambda: f"{target} is {last}")
        return last

    def records(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("log.query", **query)["records"]
        return found

    # -- processes -------------------------------------------------------------------------------

    def agent(self, role: str) -> int:
        """The process of an agent: the one that writes that log."""
        log = f"{os.path.realpath(self.state)}/agents/{role}.log"
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if os.readlink(entry / "fd" / "1") == log and role.encode() in words:
                    return int(entry.name)
        raise AssertionError(f"no {role} runs")

    def supervisor(self) -> int:
        pid = json.loads((self.state / "cluster.json").read_text())["pid"]
        assert isinstance(pid, int)
        return pid

    def leftovers(self, *, with_state: bool = True) -> set[str]:
        return picture(str(self.state), with_state=with_state)


def until(
    condition: Callable[[], Any],
    why: Callable[[], str] = lambda: "not in time",
    patience_s: float = PATIENCE_S,
) -> Any:
    """The condition's value, once it is true."""
    end_s = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < end_s, why()
        time.sleep(0.03)
    return value


def below(folder: Path) -> list[Path]:
    """All that is in a directory and its directories, which may come and go meanwhile."""
    return [
        Path(place, name)
        for place, directories, files in os.walk(folder)
        for name in (*directories, *files)
    ]


def _networks() -> set[int]:
    """The second numbers of the networks that other clusters on this machine use."""
    done = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=False)
    words = [word for word in done.stdout.split() if word.startswith("10.")]
    return {int(word.split(".")[1]) for word in words}


def make_platform(parent: Path | None = None) -> Platform:
    """Directories for a cluster; it is not started."""
    home = Path(tempfile.mkdtemp(prefix="paas-test-"))
    home.chmod(0o755)
    used = _networks()
    for number in range(1000):
        state = (parent or home) / f"state{number}"
        if 64 + int(short_name(os.path.realpath(state))[:2], 16) % 64 not in used:
            return Platform(state, home)
    raise AssertionError("every network is in use")


def end_platform(one: Platform) -> None:
    """Whatever the test did to it: nothing of it stays."""
    one.disconnect()
    one.run("down", "--purge", "--yes", status=None, timeout_s=200)
    shutil.rmtree(one.home, ignore_errors=True)


@pytest.fixture(scope="session")
def session_platform() -> Iterator[Platform]:
    one = make_platform()
    try:
        one.start()
        one.push("probe")
        one.push("raw")
        yield one
    finally:
        end_platform(one)


@pytest.fixture
def platform(session_platform: Platform) -> Iterator[Platform]:
    """The session's cluster; it has the types `probe` and `raw`."""
    yield session_platform
    session_platform.disconnect()
    session_platform.destroy_all()


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Callable[..., Platform]:
    """`make(parent)`: directories for one more cluster, which is ended after the test."""

    def go(parent: Path | None = None) -> Platform:
        one = make_platform(parent)
        request.addfinalizer(lambda: end_platform(one))
        return one

    return go


@pytest.fixture
def fresh(make: Callable[..., Platform]) -> Platform:
    """A cluster of the test's own."""
    one = make()
    one.start()
    return one


@pytest.fixture(scope="session")
def as_nobody() -> Callable[..., Done]:
    """`as_nobody(environment, words…)`: Python as a user who may read files, and nothing else."""
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", sys.executable]

    def go(environment: dict[str, str], *more: str) -> Done:
        return Done(
            subprocess.run(
                [*words, *more],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        )

    return go


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def hostile() -> ModuleType:
    """The corpus of archives that no bundle may be."""
    path = ROOT / "tests" / "unit" / "bundle" / "hostile.py"
    spec = importlib.util.spec_from_file_location("hostile_archives", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
