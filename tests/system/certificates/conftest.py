"""A certificate manager as a process of its own user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
MANAGER_UID = 54_321


@dataclass
class Manager:
    """Starts, kills and starts again; everything below `place`."""

    place: Path
    process: subprocess.Popen[str] | None = None
    authority: str = ""
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.place / "state"

    @property
    def socket_path(self) -> str:
        return str(self.place / "run" / "certificates.sock")

    def launch(self, **settings: object) -> subprocess.Popen[str]:
        wanted = {
            "cluster": "c1",
            "node": "n1",
            "directory": str(self.directory),
            "socket_path": self.socket_path,
            "spawner_uid": 0,
            "spawner_pid": os.getpid(),
            **settings,
        }
        with (self.place / "log").open("a") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    str(HERE / "manager_process.py"),
                    json.dumps(wanted),
                    str(MANAGER_UID),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            )
        self.started.append(process)
        return process

    def start(self, **settings: object) -> None:
        process = self.launch(**settings)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, self.log
        self.process = process
        self.authority = json.loads(line)["authority"]

    def start_refused(self, **settings: object) -> tuple[int, str]:
        """Exit status and last line of the log of a start that must fail."""
        before = len(self.log)
        status = self.launch(**settings).wait(60)
        return status, self.log[before:].strip()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @property
    def log(self) -> str:
        path = self.place / "log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def make_manager() -> Iterator[Callable[[], Manager]]:
    """Managers, each in a directory of its own."""
    if os.geteuid() != 0:
        pytest.fail("system tests need root")
    made: list[Manager] = []

    def make() -> Manager:
        place = Path(tempfile.mkdtemp(prefix="certificates-"))
        place.chmod(0o755)
        for name, mode in (("state", 0o700), ("run", 0o755)):
            (place / name).mkdir()
            (place / name).chmod(mode)
            os.chown(place / name, MANAGER_UID, MANAGER_UID)
        made.append(Manager(place))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.end()
            shutil.rmtree(one.place)


@pytest.fixture
def manager(make_manager: Callable[[], Manager]) -> Manager:
    return make_manager()
