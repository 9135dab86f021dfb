"""Start and end of the component's process: every way it can go, and what is told about it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

STUBBORN = "trap '' TERM; echo stubborn; while :; do sleep 0.05; done"


def test_a_program_that_knows_nothing_is_available_when_it_runs(start: Any, hub: Any) -> None:
    running = start("sh", "-c", "echo works; exec sleep 1000", protocol="none")
    hub.phase("available")
    assert hub.message("works").stream == "stdout"
    answers = hub.ask("component.invoke", {"operation": "o"})
    hub.until(lambda: answers)
    assert answers[0].code == "no-such-operation"
    assert hub.call("component.terminate", {}) == {"accepted": True, "reason": ""}
    assert running.wait() == {"code": None, "signal": 15, "reason": "normal"}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", {"code": 0, "signal": None, "reason": "normal"}),
        ("exit 7", {"code": 7, "signal": None, "reason": "exit:7"}),
        ("kill -SEGV $$", {"code": None, "signal": 11, "reason": "signal:SIGSEGV"}),
        ("kill -KILL $$", {"code": None, "signal": 9, "reason": "signal:SIGKILL"}),
    ],
)
def test_the_end_is_told_in_the_exit_file_and_to_the_hub(
    start: Any, hub: Any, script: str, words: dict[str, Any]
) -> None:
    running = start("sh", "-c", script)
    assert running.wait() == words
    assert hub.phase("exited").reason == words["reason"]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("no-such-program", "no-such-program: No such file or directory"),
        ("./not-executable", "./not-executable: Permission denied"),
    ],
)
def test_a_program_that_cannot_be_executed_is_reported(
    start: Any, hub: Any, tmp_path: Path, command: str, text: str
) -> None:
    (tmp_path / "not-executable").write_text("x")
    running = start(command)
    assert running.wait()["reason"] == f"start-failed:{text}"
    assert hub.phase("exited").reason == f"start-failed:{text}"
    assert "cannot start" in hub.message(text).message


def test_a_directory_that_is_not_there_is_named(start: Any, hub: Any) -> None:
    running = start("true", cwd="/no/such/place")
    assert running.wait()["reason"] == "start-failed:/no/such/place: No such file or directory"


def test_a_component_that_is_never_ready_is_killed_with_its_last_lines(
    start: Any, hub: Any
) -> None:
    running = start("sh", "-c", STUBBORN, ready_timeout_s=0.3)
    assert running.wait() == {"code": None, "signal": 9, "reason": "not-ready"}
    assert hub.phase("exited").reason == "not-ready"
    assert hub.message("stubborn").stream == "stdout"
    assert "not ready within 0.3 s" in hub.message("not ready").message


def test_stop_is_a_signal_first(start: Any, hub: Any) -> None:
    running = start(
        "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    )
    hub.message("up")
    hub.call("harness.stop", {"grace_s": 20, "reason": "health"})
    assert running.wait() == {"code": 3, "signal": None, "reason": "health"}
    assert hub.message("bye")
    assert hub.phase("stopping").reason == "health"


def test_stop_is_force_after_the_grace(start: Any, hub: Any) -> None:
    running = start("sh", "-c", STUBBORN)
    hub.message("stubborn")
    hub.call("harness.stop", {"grace_s": 0.2})
    assert running.wait() == {"code": None, "signal": 9, "reason": "destroyed"}


def test_a_second_stop_may_hasten_the_end(start: Any, hub: Any) -> None:
    running = start("sh", "-c", STUBBORN)
    hub.message("stubborn")
    hub.call("harness.stop", {"grace_s": 500})
    hub.call("harness.stop", {"grace_s": 0})
    assert running.wait()["signal"] == 9


def test_the_terminate_signal_to_the_harness_is_stop(start: Any, hub: Any) -> None:
    running = start("sleep", "1000", protocol="none")
    hub.phase("available")
    running.signal(signal.SIGTERM)
    assert running.wait()["reason"] == "destroyed"


def test_terminate_may_be_refused(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    answers = hub.ask("component.terminate", {"reason": "scale down"})
    asked = component.asked("component.terminate")
    assert asked["params"]["reason"] == "scale down"
    component.send({"id": asked["id"], "result": {"accepted": False, "reason": "busy"}})
    hub.until(lambda: answers)
    assert answers == [{"accepted": False, "reason": "busy"}]
    assert component.call("log.write", {"message": "still here"})["result"] == {}


def test_terminate_is_accepted_for_who_does_not_know_it(play: Any, hub: Any) -> None:
    running, component = play()
    component.ready()
    answers = hub.ask("component.terminate", {})
    asked = component.asked("component.terminate")
    component.send({"id": asked["id"], "error": {"code": -32601, "message": "what?"}})
    hub.until(lambda: answers)
    assert answers == [{"accepted": True, "reason": ""}]
    assert running.wait()["reason"] == "normal"


def test_an_announced_exit_is_the_phase_stopping(start: Any, hub: Any) -> None:
    said = '{"jsonrpc":"2.0","method":"component.exit","params":{"reason":"done"}}'
    running = start("bash", "-c", f"echo '{said}' >&3; sleep 0.1; exit 0")
    assert running.wait()["reason"] == "normal"
    assert hub.phase("stopping").reason == "done"


def test_orphans_are_reaped_and_nothing_outlives_the_component(start: Any, hub: Any) -> None:
    script = (
        "(true & true &) ; (sh -c 'echo orphan $$; exec sleep 1000' &) ; sleep 0.2;"
        "echo waiting; read -r line"
    )
    running = start("sh", "-c", script + " <&3")
    hub.message("waiting")
    orphan = int(hub.message("orphan").message.split()[1])
    assert Path(f"/proc/{orphan}").exists()
    states = [
        Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    ]
    assert "Z" not in states
    hub.call("harness.stop", {"grace_s": 5})
    running.wait()
    hub.until(lambda: not Path(f"/proc/{orphan}").exists())


def test_the_program_finds_its_environment_and_nothing_else_open(start: Any, hub: Any) -> None:
    running = start(
        "sh",
        "-c",
        "env; ls -l /proc/self/fd | sed 's/.* \\([0-9]* -> .*\\)/fd \\1/'; echo end",
        protocol="json",
        environment={"OWN": "value"},
    )
    running.wait()
    hub.message("end")
    lines = {r.message for r in hub.records}
    assert {"OWN=value", "PAAS_ENDPOINT_HTTP=10.0.0.1:8000", "PAAS_FD=3"} <= lines
    assert f"PAAS_COMPONENT_ID={'ab' * 20}" in lines
    assert f"PAAS_SOCKET={running.run_dir}/component.sock" in lines
    assert {"LANG=C.UTF-8", "TMPDIR=/tmp"} <= lines
    open_fds = {line.split()[1] for line in lines if line.startswith("fd ")}
    # 4 is the directory that `ls` itself reads.
    assert open_fds == {"0", "1", "2", "3", "4"}


def test_signals_that_python_ignores_are_not_ignored_in_the_program(start: Any, hub: Any) -> None:
    running = start("sh", "-c", "grep -E '^Sig(Ign|Blk)' /proc/self/status; echo end")
    running.wait()
    hub.message("end")
    masks = [int(r.message.split()[1], 16) for r in hub.records if r.message.startswith("Sig")]
    standard = (1 << 31) - 1  # signals 1 to 31; the next two are the C library's own
    assert [mask & standard for mask in masks] == [0, 0]


@pytest.mark.system
def test_the_program_is_the_components_user_and_only_its_group_may_connect(
    start: Any, hub: Any
) -> None:
    running = start(
        "sh",
        "-c",
        "id -u; id -g; id -G; sleep 1000",
        component_uid=61_234,
        component_gid=61_235,
        cwd="/",
    )
    hub.until(lambda: len(hub.records) == 3)
    assert [r.message for r in hub.records] == ["61234", "61235", "61235"]
    status = (running.run_dir / "component.sock").stat()
    assert (status.st_gid, status.st_mode & 0o777) == (61_235, 0o660)
