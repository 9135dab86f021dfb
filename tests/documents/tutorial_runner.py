"""Executes the console blocks of a document, in order, as a reader would.

    ```console              lines after `$ ` are typed, those below are expected on standard output
    ```console eventually   the same, repeated until it matches (what happens by itself takes time)
    ```python file=NAME     this file is written into the current directory

In expected lines `…` stands for any text; a line that is only `…` for any number of lines.  All
commands run in one shell directory: `cd` counts for those that follow.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_TIMEOUT_S = 120.0
EVENTUALLY_S = 30.0
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "\x00cwd:"


@dataclass
class Step:
    """One command and what it prints."""

    command: str
    expected: list[str] = field(default_factory=list)
    eventually: bool = False


@dataclass
class FileBlock:
    """One file that the document tells to write."""

    name: str
    text: str


def steps(document: str) -> Iterator[Step | FileBlock]:
    """The document's blocks that do something, in order."""
    for language, words, body in _FENCE.findall(document):
        if language == "console":
            yield from _console(body, "eventually" in words.split())
        elif found := re.search(r"file=(\S+)", words):
            yield FileBlock(found[1], body)


def _console(body: str, eventually: bool) -> Iterator[Step]:
    step: Step | None = None
    for line in body.splitlines():
        if line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(line[2:], eventually=eventually)
        elif step is not None:
            step.expected.append(line)
    if step is not None:
        yield step


def matches(expected: list[str], printed: list[str]) -> bool:
    """Do the printed lines fit the expected ones?"""
    if not expected:
        return not printed
    if expected[0].strip() == "…" and len(expected) > 1:
        return any(matches(expected[1:], printed[n:]) for n in range(len(printed) + 1))
    if expected[0].strip() == "…":
        return True
    if not printed:
        return False
    parts = [re.escape(" ".join(p.split())) for p in expected[0].split("…")]
    pattern = ".*".join(parts)
    line = " ".join(printed[0].split())
    return re.fullmatch(pattern, line) is not None and matches(expected[1:], printed[1:])


class Runner:
    """A reader with a shell."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.environment = dict(environment)

    def run(self, document: str) -> int:
        """Execute all; the number of commands.  AssertionError where it is not as written."""
        count = 0
        for step in steps(document):
            if isinstance(step, FileBlock):
                (self.directory / step.name).write_text(step.text, encoding="utf-8")
            else:
                self.step(step)
                count += 1
        return count

    def step(self, step: Step) -> None:
        until = time.monotonic() + (EVENTUALLY_S if step.eventually else 0.0)
        while True:
            printed, errors = self.shell(step.command)
            if matches(step.expected, printed):
                return
            if time.monotonic() >= until:
                wanted = "\n".join(step.expected)
                got = "\n".join(printed)
                raise AssertionError(
                    f"$ {step.command}\nexpected:\n{wanted}\ngot:\n{got}\n{errors}"
                )
            time.sleep(0.2)

    def shell(self, command: str) -> tuple[list[str], str]:
        """The lines on standard output, and standard error."""
        done = subprocess.run(
            ["bash", "-c", f"{command}\nprintf '\\0cwd:%s' \"$PWD\""],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        printed, _, directory = done.stdout.rpartition(_MARK)
        self.directory = Path(directory)
        return printed.splitlines(), done.stderr
