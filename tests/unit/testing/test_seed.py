"""`pytest --trio-seed`: the same seed gives the same order of tasks, another one another order."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import trio

async def test_order(capsys):
    order = []

    async def task(number):
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(task, number)
    with capsys.disabled():
        print("ORDER", *order)
"""
CONFTEST = Path(__file__).resolve().parents[2] / "conftest.py"


def order(folder: Path, seed: int) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "trio_mode=true", "--trio-seed", str(seed), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return next(line for line in done.stdout.splitlines() if "ORDER" in line)


def test_a_seed_fixes_the_order_of_tasks(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_order.py").write_text(PROGRAM)
    assert order(tmp_path, 1) == order(tmp_path, 1)
    assert order(tmp_path, 1) != order(tmp_path, 2)
