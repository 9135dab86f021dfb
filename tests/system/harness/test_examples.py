"""The examples that people copy: each greets through a real harness, and ends when asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
NODE = shutil.which("node")

COMMANDS = {
    "hello": ("python3", "hello.py"),
    "hello-shell": ("sh", "hello.sh"),
    **({"hello-node": (NODE, "hello.js")} if NODE else {}),
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_example_greets_and_ends_when_asked(start: Any, hub: Any, name: str) -> None:
    running = start(*COMMANDS[name], cwd=str(EXAMPLES / name))
    hub.phase("available")
    assert hub.invoke("greet", {"name": "Ada"})["text"] == "Hello, Ada!"
    assert hub.invoke("greet", {})["text"] == "Hello, world!"
    assert hub.call("component.terminate", {"reason": "test"})["accepted"] is True
    assert running.wait()["reason"] == "normal"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_example_refuses_an_operation_it_does_not_have(start: Any, hub: Any, name: str) -> None:
    start(*COMMANDS[name], cwd=str(EXAMPLES / name))
    hub.phase("available")
    answers = hub.ask("component.invoke", {"operation": "dance", "inputs": {}})
    hub.until(lambda: answers)
    assert answers[0].code == "no-such-operation"


def test_what_an_example_prints_becomes_records(start: Any, hub: Any) -> None:
    start("python3", "hello.py", cwd=str(EXAMPLES / "hello"))
    hub.phase("available")
    assert hub.message("about to be ready").stream == "stdout"
    hub.invoke("greet", {"name": "Ada"})
    assert hub.message("greeting Ada").stream == "log"


def test_the_configuration_reaches_the_component(start: Any, hub: Any) -> None:
    start(
        "python3",
        "hello.py",
        cwd=str(EXAMPLES / "hello"),
        configuration={"greeting": "Welcome"},
    )
    hub.phase("available")
    assert hub.invoke("greet", {"name": "Ada"})["text"] == "Welcome, Ada!"
