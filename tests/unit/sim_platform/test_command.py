"""`paas simulate`: what it takes, what it refuses, what it prints."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.cli.simulate import arguments
from paas.sim.platform import __main__ as command
from paas.sim.platform import hunting, runner
from paas.sim.platform.mutants import switched_off
from paas.sim.platform.runner import Report
from paas.sim.workers import environment


def words(seed: int | None = None, seeds: str = "", **more: Any) -> list[str]:
    return arguments(seed, seeds, **{"nodes": 0, "seconds": 300, "jobs": 2, **more})


def run(*options: str, module: str = "paas.cli", hash_seed: str = "0") -> Any:
    command = [sys.executable, "-m", module, *(["simulate"] if module == "paas.cli" else [])]
    return subprocess.run(
        [*command, *options],
        env=environment(int(hash_seed)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_asked_for_is_handed_to_the_simulation() -> None:
    common = ["-m", "paas.sim.platform", "--seconds", "300", "--nodes", "0", "--jobs", "2"]
    assert words(7) == [*common, "--seed", "7"]
    assert words(0) == [*common, "--seed", "0"]
    assert words(seeds="3-9") == [*common, "--seeds", "3-9"]
    assert words(1, nodes=5, seconds=120, jobs=1)[2:8] == [
        *("--seconds", "120", "--nodes", "5", "--jobs", "1")
    ]


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("seed", {}),
        ("seed", {"seed": 1, "seeds": "1-2"}),
        ("seed", {"seed": -1}),
        ("seeds", {"seeds": "many"}),
        ("seeds", {"seeds": "9-3"}),
        ("seeds", {"seeds": "1-"}),
        ("nodes", {"seed": 1, "nodes": 10}),
        ("nodes", {"seed": 1, "nodes": -1}),
        ("seconds", {"seed": 1, "seconds": 0}),
        ("jobs", {"seed": 1, "jobs": 0}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(field: str, given: dict[str, Any]) -> None:
    with pytest.raises(PlatformError) as caught:
        words(**given)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)


def test_the_command_refuses_before_it_simulates() -> None:
    done = run("--seeds", "9-3")
    assert done.returncode == 2
    assert "first and last seed" in done.stderr


def test_the_words_of_the_command_are_understood_by_the_simulation() -> None:
    for asked in (words(7, nodes=4), words(seeds="3-9"), words(seeds="5")):
        told = command._parser().parse_args(asked[2:])
        assert (told.seed, told.seeds) in ((7, ""), (0, "3-9"), (0, "5"))


@pytest.mark.parametrize("hash_seed", ["0", "7"])
def test_one_seed_in_one_line(hash_seed: str) -> None:
    done = run("--seed", "3", "--nodes", "3", "--seconds", "110", "--quiet", hash_seed=hash_seed)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("seed 3: held, 3 nodes, 110 simulated seconds at ")


def test_one_seed_tells_what_happened_and_what_was_checked() -> None:
    done = run("--seed", "3", "--nodes", "1", "--seconds", "110")
    assert done.returncode == 0, done.stderr
    sections = [line for line in done.stdout.splitlines() if line.endswith(":")]
    assert sections == ["happened:", "checked:"]
    assert "linearizable" in done.stdout


def test_many_seeds_that_never_saw_everything_fail_and_say_what_they_missed() -> None:
    done = run("--seeds", "4-4", "--nodes", "1", "--seconds", "110", "--jobs", "1")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("1 seeds, 0.0 simulated hours, ")
    assert "never: fault partition-halves" in done.stdout


def test_a_failing_seed_prints_the_command_that_runs_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--seed", "0", "--nodes", "3", "--seconds", "110", "--quiet"]
    with switched_off("cast-sent-twice"):
        assert command._one(command._parser().parse_args(words)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("seed 0: broken, 3 nodes, ")
    assert lines[1].startswith("pair-order: ")
    assert lines[2] == "replay: paas simulate --seed 0 --nodes 3 --seconds 110"


def test_a_failing_seed_of_many_is_told_with_its_command() -> None:
    report = Report(seeds=200, broken={27: "runs-once: two run"})
    out = io.StringIO()
    report.write(out)
    assert "seed 27: runs-once: two run\n" in out.getvalue()
    assert "replay: paas simulate --seed 27 --seconds 300\n" in out.getvalue()


# -- mutants ---------------------------------------------------------------------------------------


def test_a_hunt_ends_with_the_first_seed_that_notices() -> None:
    catch = hunting.hunt("cast-sent-twice", [0, 1, 2], nodes=3, seconds=110.0)
    assert catch.seed is not None
    assert catch.tried == catch.seed + 1
    assert catch.broken.startswith("pair-order")
    assert f"seed {catch.seed} at " in catch.line


def test_a_hunt_that_finds_nothing_says_so_and_fails() -> None:
    out = io.StringIO()
    # A node that is alone grants leases to nobody.
    assert not hunting.run(["new-leader-at-once"], [0, 1], out, nodes=1, seconds=80.0)
    assert out.getvalue().startswith("new-leader-at-once        2 tried, ")
    assert out.getvalue().endswith(" core-seconds: NOT NOTICED\n")


def test_mutants_are_chosen_by_name() -> None:
    assert hunting.names("dedup-off,capacity-off") == ["dedup-off", "capacity-off"]
    assert len(hunting.names("all")) >= 12
    with pytest.raises(KeyError):
        hunting.names("no-such-rule")


def test_a_worker_that_dies_is_no_success() -> None:
    worker = runner.Worker([1], 3, 110.0, mutant="no-such-rule")
    with pytest.raises(RuntimeError, match="ended early"):
        worker.lines()
