"""The page for those who write a component without an SDK: its lines are exact, its programs run.

Transcripts of `docs/howto/speak-the-protocol.md` are played against a real harness: lines that
begin with `>` are the component's, lines that begin with `<` must come from the harness byte for
byte.
Its programs are taken from the page and run.
"""

from __future__ import annotations

import json
import re
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from paas.rpc.envelope import Form
from paas.sdk.paas_testing import Harness, HarnessError

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "speak-the-protocol.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for language, text in BLOCK.findall(PAGE.read_text()) if language == kind]


class Reader:
    """Whole lines of the harness, as they came."""

    def __init__(self, played: Any, hub: Any) -> None:
        self._played = played
        self._hub = hub
        self._lines: list[str] = []
        self._rest = b""

    def line(self) -> str:
        self._hub.until(self._some)
        return self._lines.pop(0)

    def _some(self) -> bool:
        while select.select([self._played.socket], [], [], 0)[0]:
            data = self._played.socket.recv(1 << 16)
            assert data, "the harness closed the connection"
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines += [line.decode() for line in lines if line]
        return bool(self._lines)


def cause(hub: Any, message: dict[str, Any]) -> None:
    """Let the hub do what makes the harness send this line."""
    method, params = message.get("method"), message.get("params")
    if method in ("component.invoke", "component.terminate"):
        if params.get("oneway"):
            hub.notify(method, params)
        else:
            hub.ask(method, params)
    elif method == "component.event":
        hub.notify(method, params)
    elif method == "component.cancel":
        hub.send(hub.connection.abandon(max(hub.connection._pending)))
    elif method is None and "jsonrpc" in message:
        waiting = [r for r in hub.requests if not r.notification]
        if waiting:
            request = waiting.pop(0)
            hub.requests.remove(request)
            if "error" in message:
                hub.fail(request, message["error"]["data"]["code"], message["error"]["message"])
            else:
                hub.reply(request, message["result"])


def test_the_transcripts_are_exact(play: Any, hub: Any) -> None:
    _, played = play(Form.JSON)
    reader = Reader(played, hub)
    seen = 0
    for line in "".join(blocks("json")).splitlines():
        side, text = line[:2], line[2:]
        if side == "> ":
            played.send_bytes(text.encode() + b"\n")
            if json.loads(text).get("method", "").startswith("hub."):
                hub.until(lambda: hub.requests)
        else:
            assert side == "< ", line
            cause(hub, json.loads(text))
            assert reader.line() == text
            seen += 1
    assert seen > 8


def program(language: str, folder: Path) -> tuple[str, ...]:
    """The command of a program of the page."""
    (source,) = blocks(language)
    file = folder / f"greeter.{language}"
    file.write_text(source)
    if language == "bash":
        return ("bash", str(file))
    if language == "awk":
        return ("sh", "-c", f"exec awk -W interactive -f {file} <&3 >&3")
    compiler = shutil.which("cc")
    assert compiler is not None
    made = str(folder / "greeter")
    subprocess.run([compiler, "-Wall", "-Werror", "-o", made, str(file)], check=True)
    return (made,)


@pytest.mark.parametrize("language", ["bash", "awk", "c"])
def test_the_programs_of_the_page_are_components(
    start: Any, hub: Any, tmp_path: Path, language: str
) -> None:
    running = start(*program(language, tmp_path))
    hub.phase("available")
    assert hub.invoke("greet", {"name": "Ada"}) == {"text": "Hello, Ada!"}
    assert hub.invoke("greet", {}) == {"text": "Hello, world!"}
    answers = hub.ask("component.invoke", {"operation": "dance", "inputs": {}})
    hub.until(lambda: answers)
    assert answers[0].code == "no-such-operation"
    assert hub.call("component.terminate", {"reason": "test"})["accepted"] is True
    assert running.wait()["reason"] == "normal"


def test_what_connects_by_the_socket_can_be_tested_without_a_platform(tmp_path: Path) -> None:
    with Harness(program("c", tmp_path)) as harness:
        assert harness.call("greet", {"name": "Ada"}) == {"text": "Hello, Ada!"}
        with pytest.raises(HarnessError, match="no-such-operation"):
            harness.call("dance")
