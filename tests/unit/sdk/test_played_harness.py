"""The harness that developers' tests play: what goes wrong is said, and nothing is left behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from paas.sdk.joined import source
from paas.sdk.paas_testing import Harness, HarnessError

ASKER = """
from paas_component import Component
component = Component()
component.operation("ask")(lambda inputs, call: component.call("x", "y"))
component.run()
"""


@pytest.fixture
def asker(tmp_path: Path) -> Harness:
    (tmp_path / "paas_component.py").write_text(source())
    (tmp_path / "asker.py").write_text(ASKER)
    return Harness([sys.executable, "asker.py"], directory=str(tmp_path))


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    harness = Harness(["./nothing"], directory=str(tmp_path))
    with pytest.raises(HarnessError, match=r"cannot start \['./nothing'\]"):
        harness.start()
    assert not os.path.exists(harness._folder)


def test_what_was_never_started_can_be_closed() -> None:
    Harness(["true"]).close()


def test_a_program_that_ends_is_told_with_its_output() -> None:
    with pytest.raises(HarnessError, match=r"(?s)closed its channel.*oh no") as caught:
        Harness([sys.executable, "-c", "raise SystemExit('oh no')"]).start()
    assert caught.value.code == ""


def test_a_program_that_is_never_ready_is_ended() -> None:
    harness = Harness(["sleep", "60"], wait=False)
    harness.start()
    with pytest.raises(HarnessError, match=r"did not say that it is ready: within 0\.1 s"):
        harness.await_ready(0.1)
    harness.close()
    assert harness._process is not None
    assert harness._process.poll() is not None
    assert not os.path.exists(harness._folder)


def test_what_is_no_message_is_told() -> None:
    program = (
        "import os, socket, time; s = socket.socket(socket.AF_UNIX);"
        "s.connect(os.environ['PAAS_SOCKET']); s.sendall(b'{oops\\n'); time.sleep(60)"
    )
    with pytest.raises(HarnessError, match="could not read the component"):
        Harness([sys.executable, "-c", program]).start()


def test_an_exception_of_the_test_is_raised_in_the_test(asker: Harness) -> None:
    def wrong(params: dict[str, object]) -> None:
        raise LookupError("not in my test")

    with asker as harness:
        harness.on("hub.call", wrong)
        with pytest.raises(LookupError, match="not in my test"):
            harness.call("ask")
        harness.on("hub.call", {"outputs": {1, 2}})  # no JSON
        with pytest.raises(TypeError, match="not JSON serializable"):
            harness.call("ask")
        harness.on("hub.call", {"outputs": 5})
        assert harness.call("ask") == 5


def test_speaking_to_what_has_gone_is_told(asker: Harness) -> None:
    with asker as harness:
        assert harness.terminate()["accepted"] is True
        assert harness.wait() == 0
        with pytest.raises(HarnessError, match="closed its channel"):
            harness.call("ask")
