"""The probe of every front end of the SDKs below a real harness, in both codecs.

What `tests/unit/sdk/test_every_front.py` does in depth is done here in breadth, so that
what they write is what the harness reads, and the other way round.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.wire import codec

ROOT = Path(__file__).parents[3]
PROBES = ROOT / "tests" / "unit" / "sdk" / "probes"
NODE = shutil.which("node")
PYTHONS = {
    "threads": (sys.executable, str(PROBES / "probe_threads.py")),
    "asyncio": (sys.executable, str(PROBES / "probe_tasks.py"), "asyncio"),
    "trio": (sys.executable, str(PROBES / "probe_tasks.py"), "trio"),
}
NODES = {"node": (NODE, str(PROBES / "probe.mjs"), str(ROOT / "paas/sdk/node/paas-component.mjs"))}
CASES = [(command, form) for command in PYTHONS.values() for form in ("json", "msgpack")]
CASES += [(command, "json") for command in NODES.values() if NODE]


@pytest.fixture(params=CASES, ids=lambda case: f"{Path(case[0][-1]).name}-{case[1]}")
def probe(request: Any, start: Any, hub: Any) -> Any:
    command, form = request.param
    running = start(*command, environment={"PROBE_CODEC": form})
    joined = hub.request("hub.join")
    hub.reply(joined, {"positions": {}, "members": {}, "token": {}})
    hub.phase("available")
    return running


def test_it_is_called_asks_watches_is_cancelled_and_ends(probe: Any, hub: Any) -> None:
    said = {"text": "grüß \U0001f600", "n": [1, 2.5, None, True, -3]}
    assert hub.invoke("echo", said) == said
    answers = hub.ask("component.invoke", {"operation": "ask", "inputs": {"k": 1}, "from": ""})
    asked = hub.request("hub.call")
    assert codec.unpack(asked.params)["inputs"] == {"k": 1}
    hub.reply(asked, {"outputs": {"v": 2}, "attachments": [], "component": "x"})
    assert hub.until(lambda: answers)[0]["outputs"] == {"got": {"v": 2}}

    answers = hub.ask("component.invoke", {"operation": "follow", "inputs": {}, "from": ""})
    hub.reply(hub.request("hub.watch"), {"watch": 9, "snapshot": [], "index": 7, "resumed": False})
    for n in range(3):
        event = {"watch": 9, "event": "joined", "index": 8 + n, "n": n}
        hub.notify("component.event", event)
    assert hub.until(lambda: answers)[0]["outputs"] == {"snapshot": [], "events": [0, 1, 2]}

    hub.ask("component.invoke", {"operation": "wait", "inputs": {}, "from": ""})
    hub.message("waiting")
    hub.send(hub.connection.abandon(max(hub.connection._pending)))
    assert hub.call("component.terminate", {"reason": "now"})["accepted"] is True
    assert probe.wait()["reason"] == "normal"


def test_attachments_are_bytes(probe: Any, hub: Any) -> None:
    sent = [{"name": "a", "type": "t", "data": b"abc\0\xff"}]
    params = {"operation": "copy", "inputs": {}, "from": "", "attachments": sent}
    assert hub.call("component.invoke", params)["attachments"][0]["data"] == b"\xff\0cba"


@pytest.mark.parametrize("operation", ["deep", "half_a_character"])
def test_what_cannot_be_said_is_an_error_at_once(probe: Any, hub: Any, operation: str) -> None:
    with pytest.raises(PlatformError) as caught:
        hub.invoke(operation, {"depth": 31})
    assert caught.value.code in ("limit-exceeded", "failed")
    assert hub.invoke("echo", {"a": 1}) == {"a": 1}
