"""Attachments that are larger than any message, from component to component, and what they cost."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.wire import codec

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[3]
MIB = 1 << 20
LARGE = 50 * MIB
HUB_GROWTH_MIB = 48
HARNESS_GROWTH_MIB = 24
"""An attachment of 50 MiB must not be in anybody's memory as a whole."""


@pytest.fixture(scope="session")
def carriers(session_platform: Any) -> dict[str, str]:
    """A type for each codec."""
    found = {}
    for name in ("json", "msgpack"):
        source = session_platform.home / "carriers" / name
        shutil.copytree(ROOT / "bench" / "components" / "carrier", source)
        manifest = source / "component.toml"
        text = manifest.read_text().replace('"json"', f'"{name}"')
        manifest.write_text(text.replace('name = "carrier"', f'name = "carrier-{name}"'))
        if name == "msgpack":
            spec = importlib.util.find_spec("msgpack")
            assert spec is not None
            assert spec.origin is not None
            shutil.copytree(Path(spec.origin).parent, source / "msgpack")
        found[name] = session_platform.push(source)
    return found


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has gone")


def harness_of(platform: Any, component: str) -> int:
    """The first process of the component's container: its harness."""
    facts = platform.component(component)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                group = (entry / "cgroup").read_text()
                inner = [
                    line.split()[1:]
                    for line in (entry / "status").read_text().splitlines()
                    if line.startswith("NSpid:")
                ]
            except OSError:
                continue
            if component[:12] in group and inner[0][-1] == "1":
                return int(entry.name)
    raise AssertionError(f"no harness of {facts}")


class Watching:
    """The largest resident memory of some processes while something happens."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.before = {name: resident_mib(pid) for name, pid in pids.items()}
        self.most = dict(self.before)
        self._pids = pids
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.01):
            for name, pid in self._pids.items():
                self.most[name] = max(self.most[name], resident_mib(pid))

    def growth(self, name: str) -> float:
        return self.most[name] - self.before[name]


@pytest.mark.parametrize(("sender", "receiver"), [("json", "msgpack"), ("msgpack", "json")])
def test_fifty_mebibytes_go_through_a_call_and_through_little_memory(
    platform: Any, carriers: dict[str, str], sender: str, receiver: str
) -> None:
    a, b = platform.create(carriers[sender]), platform.create(carriers[receiver])
    platform.call(a, "send", target=b, bytes=2 * MIB, seed=0)  # what is loaded at first use
    pids = {
        "hub": platform.agent("hub"),
        "sender": harness_of(platform, a),
        "receiver": harness_of(platform, b),
    }
    with Watching(pids) as watching:
        done = platform.call(a, "send", target=b, bytes=LARGE, seed=7, timeout_s=90)
    taken = done["outputs"]
    assert (taken["size"], taken["sha256"]) == (LARGE, done["right"])
    grown = {name: round(watching.growth(name), 1) for name in pids}
    sys.stdout.write(
        f"{sender} to {receiver}: stored at {LARGE / MIB / done['stored_s']:.0f} MiB/s, read at "
        f"{LARGE / MIB / taken['took_s']:.0f} MiB/s; memory grew by (MiB) {grown}\n"
    )
    assert grown["hub"] < HUB_GROWTH_MIB
    assert grown["sender"] < HARNESS_GROWTH_MIB
    assert grown["receiver"] < HARNESS_GROWTH_MIB


def test_an_answer_may_be_as_large(platform: Any, carriers: dict[str, str]) -> None:
    a, b = platform.create(carriers["json"]), platform.create(carriers["msgpack"])
    done = platform.call(a, "get", target=b, bytes=10 * MIB, seed=3)
    assert done["sha256"] == done["right"]


def test_an_answer_outlives_its_sender_for_a_while(
    platform: Any, carriers: dict[str, str], wait_until: Callable[..., Any]
) -> None:
    a, b = platform.create(carriers["json"]), platform.create(carriers["json"])
    done = platform.call(a, "send", target=b, operation="keep", bytes=5 * MIB, seed=4)
    platform.destroy(a)
    assert platform.call(b, "read_kept")["sha256"] == done["right"]


def test_a_receiver_that_is_killed_in_the_middle_costs_the_others_nothing(
    platform: Any, carriers: dict[str, str]
) -> None:
    a, b, c = (platform.create(carriers["json"]) for _ in range(3))
    with pytest.raises(PlatformError):
        platform.call(a, "send", target=b, operation="die", bytes=20 * MIB, seed=5, timeout=15)
    done = platform.call(a, "send", target=c, bytes=20 * MIB, seed=5)
    assert done["outputs"]["sha256"] == done["right"]


def test_the_hub_is_killed_and_what_was_stored_is_still_there(
    platform: Any, carriers: dict[str, str], wait_until: Callable[..., Any]
) -> None:
    a, b = platform.create(carriers["json"]), platform.create(carriers["json"])
    done = platform.call(a, "send", target=b, operation="keep", bytes=5 * MIB, seed=6)
    upload = platform.call(a, "request", method="blob.begin")["upload"]
    old = platform.agent("hub")
    os.kill(old, signal.SIGKILL)
    platform.disconnect()

    def again() -> Any:
        try:
            return platform.call(b, "read_kept")
        except PlatformError:
            platform.disconnect()
            return None

    assert wait_until(again)["sha256"] == done["right"]
    params = {"upload": upload, "offset": 0, "data": ""}

    def refused() -> str:
        """How; nothing while its harness is on the way back to the hub."""
        with pytest.raises(PlatformError) as caught:
            platform.call(a, "request", method="blob.append", params=params)
        return "" if caught.value.code == "not-available" else caught.value.code

    assert wait_until(refused) == "no-such-target"


def test_a_component_that_stores_too_much_is_told_so(
    platform: Any, carriers: dict[str, str]
) -> None:
    a = platform.create(carriers["json"])
    with pytest.raises(PlatformError) as caught:
        platform.call(a, "request", method="blob.begin", params={"size": 257 * MIB})
    assert caught.value.code == "quota-exceeded"


def test_an_operator_sends_a_file_and_saves_what_comes_back(
    platform: Any, carriers: dict[str, str], tmp_path: Path
) -> None:
    b = platform.create(carriers["json"])
    file = tmp_path / "file.bin"
    data = os.urandom(5 * MIB)
    file.write_bytes(data)
    outputs = platform.run("call", b, "take", "--attach", str(file), "-o", "json").json
    assert outputs["sha256"] == hashlib.sha256(data).hexdigest()
    saved = tmp_path / "saved"
    words = ("call", b, "give", "bytes=5242880", "seed=1", "--save", str(saved), "-o", "json")
    right = platform.run(*words).json["right"]
    assert hashlib.sha256((saved / "given.bin").read_bytes()).hexdigest() == right


def test_binary_data_is_base64_in_json_and_bytes_in_msgpack(platform: Any) -> None:
    items = []
    for binary in (False, True):
        connection = platform.connect(binary=binary)
        upload = connection.call("blob.begin")["upload"]
        data: Any = b"hello" if binary else base64.b64encode(b"hello").decode()
        connection.call("blob.append", {"upload": upload, "offset": 0, "data": data})
        item = connection.call("blob.commit", {"upload": upload})
        items.append(item)
        place = {name: item[name] for name in ("blob", "key", "node")}
        assert connection.call("blob.read", place) == {"data": data, "eof": True}
        connection.close()
    assert items[0] == items[1]  # all operators are one owner
    raw = platform.raw()
    line = b'{"jsonrpc":"2.0","id":1,"method":"blob.append","params":'
    raw.sendall(line + b'{"upload":1,"offset":0,"data":"not base64"}}\n')
    answer = codec.from_json(raw.makefile("rb").readline())
    raw.close()
    assert answer["error"]["data"]["field"] == "data"
