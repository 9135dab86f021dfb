"""The fetcher as a component, out of its bundle, played by a scripted harness."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.bundle import manifest
from paas.fetcher.bundle import build
from paas.sdk.paas_testing import Harness, HarnessError
from tests.unit.fetcher.conftest import always, said, scripted


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fetcher") / "bundle"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "paas.fetcher", "build", str(folder)),
            *("--allow", "feeds.example.org:443", "--allow", "10.0.0.0/8:80"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "paas push" in done.stdout
    return folder


def harness_of(bundle: Path, configuration: dict[str, Any]) -> Harness:
    """The bundle alone: nothing of the source tree can be imported."""
    harness = Harness(
        ["/usr/bin/python3", "-m", "paas.fetcher"],
        configuration=configuration,
        directory=str(bundle),
        environment={"PATH": os.environ["PATH"]},
    )
    harness.start()
    return harness


def test_its_manifest_is_one_and_lists_what_it_may_reach(bundle: Path, tmp_path: Path) -> None:
    found = manifest.parse((bundle / "component.toml").read_bytes())
    assert set(found.egress.allow) == {"feeds.example.org:443", "10.0.0.0/8:80"}
    names = {path.name for path in bundle.iterdir()}
    assert {"paas", "trio", "h11", "msgpack", "component.toml"} <= names
    assert not {"cryptography", "pysyncobj", "pytest"} & names
    for wrong in ("*:443", "example.org", "a:0"):
        with pytest.raises(PlatformError):
            build(tmp_path / "other", [wrong])
    with pytest.raises(PlatformError):
        build(bundle, [])


async def test_a_call_is_a_fetch(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    async with scripted(
        always(said(200, "Content-Type: text/xml; x", 'ETag: "1"', body=b"<a/>"))
    ) as o:
        configuration = {
            "private": ["127.0.0.0/8"],
            "group": "outside",
            "credentials": {
                "api": {
                    "file": str(tmp_path / "token"),
                    "hosts": [f"127.0.0.1:{o.port}"],
                    "plain": True,
                }
            },
        }
        harness = await trio.to_thread.run_sync(harness_of, bundle, configuration)
        try:
            inputs = {
                "url": o.url("/feed"),
                "headers": {"accept": "text/xml"},
                "conditional": {"etag": '"0"'},
                "credential": "api",
            }
            pending = harness.begin("fetch", inputs)
            whole = await trio.to_thread.run_sync(pending.whole)
            assert whole["outputs"]["status"] == 200
            assert whole["outputs"]["final_url"] == o.url("/feed")
            assert whole["outputs"]["etag"] == '"1"'
            (body,) = whole["attachments"]
            assert (body["name"], body["type"], body["data"]) == ("body", "text/xml", b"<a/>")
            assert harness.groups == ["outside"]
            for wrong, code, reason in (
                ({}, "invalid", "request"),
                ({"url": "http://127.0.0.1:22/"}, "denied", "port-refused"),
                ({"url": "http://192.168.1.1/"}, "denied", "address-refused"),
                ({"url": o.url(), "headers": [["Host", "x"]]}, "invalid", "request"),
                ({"url": o.url(), "credential": "other"}, "invalid", "request"),
            ):
                with pytest.raises(HarnessError) as caught:
                    await trio.to_thread.run_sync(lambda w=wrong: harness.call("fetch", w))
                assert (caught.value.code, caught.value.data["reason"]) == (code, reason)
            figures = await trio.to_thread.run_sync(lambda: harness.call("statistics"))
            assert figures["answers"] == 1
        finally:
            await trio.to_thread.run_sync(harness.close)
    (heard,) = o.heard
    assert heard.headers["authorization"] == "s3cret"
    assert heard.headers["if-none-match"] == '"0"'


def test_a_configuration_that_is_none_is_said(bundle: Path) -> None:
    with pytest.raises(HarnessError):
        harness_of(bundle, {"per_host": 0})
