"""Going into components as a person does: exec, shell, proxy, cp, here and from outside."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system

PATIENCE_S = 45.0


@pytest.fixture
def target(platform: Any) -> str:
    component: str = platform.create("probe", name="inner")
    return component


def paas(
    platform: Any, *words: str, given: bytes = b"", status: int | None = 0
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "paas.cli", *words],
        env=platform.environment(),
        input=given,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert status is None or done.returncode == status, done
    assert b"Traceback" not in done.stderr, done.stderr
    return done


def processes(word: str) -> list[int]:
    """Processes of the machine whose command line has this word."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def test_exec_carries_bytes_both_ways(platform: Any, target: str) -> None:
    data = os.urandom(2_000_000)
    assert paas(platform, "exec", target, "--", "/bin/cat", given=data).stdout == data


def test_exec_ends_as_the_command_ends(platform: Any, target: str) -> None:
    done = paas(platform, "exec", "inner", "--", "sh", "-c", "echo o; echo e >&2; exit 7", status=7)
    assert (done.stdout, done.stderr) == (b"o\n", b"e\n")
    paas(platform, "exec", target, "--", "sh", "-c", "kill -TERM $$", status=128 + 15)
    assert (
        b"no-such-program"
        in paas(platform, "exec", target, "--", "no-such-program", status=127).stderr
    )


def test_exec_is_in_the_component_s_container(platform: Any, target: str) -> None:
    script = "id -u; pwd; echo $PAAS_COMPONENT $COLOUR"
    said = paas(platform, "exec", "--env", "COLOUR=red", target, "--", "sh", "-c", script).stdout
    assert said.split() == [b"1000", b"/app", target.encode(), b"red"]
    assert paas(platform, "exec", "--root", target, "--", "id", "-u").stdout == b"0\n"
    assert paas(platform, "exec", "--cwd", "/tmp", target, "--", "pwd").stdout == b"/tmp\n"


def test_what_cannot_be_entered_is_said(platform: Any, target: str) -> None:
    assert b"no-such-target" in paas(platform, "exec", "nobody", "--", "id", status=3).stderr
    assert b"expected what to run" in paas(platform, "exec", target, status=2).stderr
    platform.destroy(target)
    assert paas(platform, "exec", target, "--", "id", status=None).returncode in (1, 3)


def test_a_caller_that_is_killed_takes_its_command_with_it(platform: Any, target: str) -> None:
    word = f"{time.time():.6f}"
    running = subprocess.Popen(
        [sys.executable, "-m", "paas.cli", "exec", target, "--", "sh", "-c", f"exec sleep 6{word}"],
        env=platform.environment(),
        stdin=subprocess.PIPE,
    )
    until(lambda: processes(f"6{word}"))
    running.kill()
    running.wait()
    until(lambda: not processes(f"6{word}"))


def test_control_c_goes_to_the_command(platform: Any, target: str) -> None:
    script = "trap 'echo caught; exit 9' INT; echo on; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        [sys.executable, "-m", "paas.cli", "exec", target, "--", "sh", "-c", script],
        env=platform.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"on\n"
    running.send_signal(signal.SIGINT)
    assert running.stdout.readline() == b"caught\n"
    assert running.wait(30) == 9


def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.03)


class Person:
    """Somebody at a terminal."""

    def __init__(self, platform: Any, *words: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(
                sys.executable,
                [sys.executable, "-m", "paas.cli", *words],
                platform.environment() | {"TERM": "dumb"},
            )
        self.said = b""
        self.size(33, 101)

    def size(self, rows: int, columns: int) -> None:
        ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def sees(self, pattern: bytes) -> bytes:
        end = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < end, self.said
            if select.select([self.terminal], [], [], 0.2)[0]:
                self.said += os.read(self.terminal, 4_096)
        self.said = self.said[found.end() :]
        return found.group(0)

    def ends(self) -> int:
        with contextlib.suppress(OSError):
            while os.read(self.terminal, 4_096):
                continue
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_shell_has_a_terminal_that_follows_ours(platform: Any, target: str) -> None:
    person = Person(platform, "shell", target)
    person.sees(rb"\$ ")
    person.type("stty size; tty\n")
    person.sees(rb"33 101\r\n/dev/pts/\d+")
    person.size(20, 70)
    person.type("sleep 0.5; stty size\n")
    person.sees(rb"20 70")
    person.type("sleep 600\n")
    time.sleep(0.5)
    person.type("\x03")
    person.type("echo still-$((1+1))\n")
    person.sees(rb"still-2")
    person.type("exit 4\n")
    assert person.ends() == 4


def test_a_shell_without_a_terminal_takes_a_script(platform: Any, target: str) -> None:
    assert paas(platform, "shell", target, given=b"echo $((40 + 2))\n").stdout == b"42\n"


@pytest.fixture
def forwarded(platform: Any, target: str) -> Iterator[tuple[str, str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", "paas.cli", "proxy", target, "http"],
        env=platform.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    line = running.stdout.readline()
    yield line.split()[1], target
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130


def test_proxy_reaches_the_endpoint(platform: Any, forwarded: tuple[str, str]) -> None:
    address, target = forwarded
    words = ["curl", "-sS", "--max-time", "30", "--http0.9"]
    calls = [
        subprocess.Popen([*words, f"http://{address}/"], stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    assert [f"this is {target}" in call.communicate(timeout=60)[0] for call in calls] == [True] * 5


def test_proxy_says_what_is_wrong_at_once(platform: Any, target: str) -> None:
    assert b"endpoint" in paas(platform, "proxy", target, "nosuch", status=2).stderr
    assert b"refused" in paas(platform, "proxy", target, "9", status=1).stderr.lower()


def test_cp_brings_trees_in_and_out_with_their_modes(
    platform: Any, target: str, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True, mode=0o750)
    (tree / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "run.sh").chmod(0o750)
    (tree / "below" / "large").write_bytes(os.urandom(700_000))
    (tree / "below" / "link").symlink_to("../run.sh")
    os.mkfifo(tree / "pipe")
    done = paas(platform, "cp", str(tree), f"{target}:")
    assert b"copied 3 files" in done.stdout
    assert b"tree/pipe" in done.stderr
    assert paas(platform, "exec", target, "--", "/app/tree/run.sh").stdout == b"ran\n"
    paas(platform, "cp", f"{target}:tree", str(tmp_path / "back"))
    back = tmp_path / "back"
    assert (back / "below" / "large").read_bytes() == (tree / "below" / "large").read_bytes()
    assert os.readlink(back / "below" / "link") == "../run.sh"
    assert (back / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (back / "below").stat().st_mode & 0o777 == (tree / "below").stat().st_mode & 0o777


def test_cp_says_what_is_not_there_and_keeps_to_the_quota(
    platform: Any, target: str, tmp_path: Path
) -> None:
    assert b"/nosuch" in paas(platform, "cp", f"{target}:/nosuch", str(tmp_path), status=1).stderr
    assert paas(platform, "cp", "a", "b", status=2).stderr
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(200 << 20)
    done = paas(platform, "cp", str(file), f"{target}:/app/large", status=1)
    assert b"storage-full" in done.stderr
    assert paas(platform, "exec", target, "--", "ls", "-A", "/app").stdout.count(b"paas-copy") == 0


@pytest.fixture
def outside(platform: Any, tmp_path: Path) -> list[str]:
    """The options with which a program outside reaches the cluster."""
    made = platform.run(
        *("token", "certificate", "olga", "--directory", str(tmp_path), "-o", "json")
    ).json
    return [
        *("--url", made["url"], "--authority-file", str(tmp_path / "authority.crt")),
        *("--cert-file", str(tmp_path / "olga.crt"), "--key-file", str(tmp_path / "olga.key")),
    ]


def test_all_of_it_works_from_outside(
    platform: Any, target: str, outside: list[str], tmp_path: Path
) -> None:
    data = os.urandom(1_000_000)
    assert paas(platform, *outside, "exec", target, "--", "cat", given=data).stdout == data
    paas(platform, *outside, "exec", target, "--", "sh", "-c", "exit 3", status=3)
    (tmp_path / "note").write_bytes(data)
    paas(platform, *outside, "cp", str(tmp_path / "note"), f"{target}:/tmp/")
    paas(platform, *outside, "cp", f"{target}:/tmp/note", str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == data
    person = Person(platform, *outside, "shell", target)
    person.sees(rb"\$ ")
    person.type("echo $((6*7))\n")
    person.sees(rb"\n42\r\n")
    person.type("exit\n")
    assert person.ends() == 0


def test_readers_and_components_may_not_go_in(platform: Any, target: str, tmp_path: Path) -> None:
    made = platform.run("token", "create", "--role", "reader", "-o", "json").json
    (tmp_path / "token").write_text(made["token"])
    platform.run("token", "create", "--save-authority", str(tmp_path / "ca"), "-o", "json")
    words = ["--url", made["url"], "--authority-file", str(tmp_path / "ca")]
    words += ["--token-file", str(tmp_path / "token")]
    assert b"denied" in paas(platform, *words, "exec", target, "--", "id", status=4).stderr
    params = {"component": target, "command": ["id"], "stream": 1}
    with pytest.raises(PlatformError, match="denied"):
        platform.call(target, "request", method="controller.exec", params=params)


@pytest.mark.parametrize("agent", ["containers", "hub"])
def test_an_agent_that_is_killed_ends_what_is_inside_and_the_next_one_goes_on(
    fresh: Any, agent: str
) -> None:
    fresh.push("probe")
    target = fresh.create("probe")
    word = f"6{time.time():.6f}"
    running = subprocess.Popen(
        [sys.executable, "-m", "paas.cli", "exec", target, "--", "sh", "-c", f"exec sleep {word}"],
        env=fresh.environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until(lambda: processes(word))
    os.kill(fresh.agent(agent), signal.SIGKILL)
    _, said = running.communicate(timeout=60)
    assert running.returncode in (1, 6), said
    until(lambda: not processes(word))
    until(lambda: paas(fresh, "exec", target, "--", "true", status=None).returncode == 0)
    assert not [name for name in processes("paas.container.entrance") if _parent(name) == 1]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
