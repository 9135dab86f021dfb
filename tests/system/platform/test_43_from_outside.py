"""Programs outside: curl with a token and with a certificate, a watch over a WebSocket, the end.

The cluster is a real one, and so is the client: curl knows TLS and HTTP and nothing of us.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from paas.base.errors import PlatformError
from paas.cli.remote import Remote, connect_remote

pytestmark = pytest.mark.system


@dataclass
class Outside:
    """What a program outside was given, in files."""

    platform: Any
    directory: Path
    url: str
    host: str

    @property
    def authority(self) -> str:
        return str(self.directory / "authority.crt")

    def token(self, role: str, *more: str) -> str:
        """A file with a new token."""
        made = self.platform.run("token", "create", "--role", role, *more, "-o", "json").json
        file = self.directory / f"{made['id']}.token"
        file.write_text(made["token"])
        return str(file)

    def remote(self, token: str = "", name: str = "") -> Remote:
        files = [str(self.directory / f"{name}.{kind}") if name else "" for kind in ("crt", "key")]
        return Remote(self.url, self.authority, token, *files)

    def curl(self, *words: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and answer."""
        port = urlsplit(self.url).port
        command = ["curl", "-sS", "--max-time", "30", "--cacert", self.authority]
        command += ["--resolve", f"{self.host}:{port}:127.0.0.1", "-w", "\n%{http_code}", *words]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = subprocess.run(
            [*command, f"https://{self.host}:{port}/rpc"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return -done.returncode, done.stderr
        said, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(said) if said else None


@pytest.fixture
def outside(platform: Any, tmp_path: Path) -> Iterator[Outside]:
    made = platform.run(
        *("token", "certificate", "anna", "--directory", str(tmp_path), "-o", "json")
    ).json
    yield Outside(platform, tmp_path, made["url"], made["host"])
    for token in platform.api("access.list_tokens")["tokens"]:
        platform.api("access.revoke_token", id=token["id"])


def rpc(method: str, /, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def bearer(file: str) -> list[str]:
    return ["-H", f"Authorization: Bearer {Path(file).read_text()}"]


def test_the_address_is_shown(platform: Any, outside: Outside) -> None:
    assert outside.url in platform.run("status").out
    assert platform.api("cluster.status")["url"] == outside.url


def test_curl_with_a_token(platform: Any, outside: Outside) -> None:
    component = platform.create("probe")
    status, answer = outside.curl(
        *bearer(outside.token("operator")),
        body=rpc("controller.component", component=component),
    )
    assert (status, answer["result"]["id"]) == (200, component)


def test_curl_with_a_certificate(outside: Outside) -> None:
    words = ["--cert", f"{outside.directory}/anna.crt", "--key", f"{outside.directory}/anna.key"]
    status, answer = outside.curl(*words, body=rpc("access.list_tokens"))
    assert (status, answer["result"]) == (200, {"tokens": []})


def test_curl_with_neither_or_with_a_reader_s_token(outside: Outside) -> None:
    assert outside.curl(body=rpc("cluster.status"))[0] == 401
    reader = bearer(outside.token("reader"))
    assert outside.curl(*reader, body=rpc("cluster.status"))[0] == 200
    _, answer = outside.curl(*reader, body=rpc("access.create_token"))
    assert answer["error"]["data"]["code"] == "denied"


def test_a_revoked_and_an_expired_token(outside: Outside, wait_until: Callable[..., Any]) -> None:
    revoked, brief = outside.token("operator"), outside.token("operator", "--expires", "1")
    outside.platform.run("token", "revoke", Path(revoked).stem)
    assert outside.curl(*bearer(revoked), body=rpc("cluster.status"))[0] == 401
    wait_until(lambda: outside.curl(*bearer(brief), body=rpc("cluster.status"))[0] == 401)


def test_a_client_that_trusts_another_authority_does_not_connect(outside: Outside) -> None:
    status, said = outside.curl("--cacert", "/etc/ssl/certs/ca-certificates.crt", "-d", "{}")
    assert status < 0
    assert "certificate" in said


@pytest.mark.parametrize("how", ["token", "certificate"])
def test_a_watch_over_a_websocket(platform: Any, outside: Outside, how: str) -> None:
    remote = outside.remote(token=outside.token("reader"))
    if how == "certificate":
        remote = outside.remote(name="anna")
    connection = connect_remote(remote)
    group = f"seen-{how}"
    snapshot = connection.call("hub.watch", {"group": group})
    assert snapshot["snapshot"] == []
    component = platform.create("probe", groups=[group])
    event = next(e for e in connection.notifications(30.0) if e["event"] == "joined")
    assert (event["watch"], event["component"]) == (snapshot["watch"], component)
    connection.close()


def test_a_websocket_ends_with_its_token(outside: Outside) -> None:
    token = outside.token("reader")
    connection = connect_remote(outside.remote(token=token))
    connection.call("hub.watch", {"group": "anything"})
    outside.platform.run("token", "revoke", Path(token).stem)
    with pytest.raises(PlatformError) as caught:
        next(connection.notifications(30.0))
    assert caught.value.code == "unavailable"
    with pytest.raises(PlatformError) as caught:
        connect_remote(outside.remote(token=token))
    assert caught.value.code == "denied"


def test_the_command_line_from_elsewhere(platform: Any, outside: Outside, tmp_path: Path) -> None:
    component = platform.create("probe", name="seen-from-afar")
    words = ["--url", outside.url, "--authority-file", outside.authority]
    words += ["--token-file", outside.token("operator")]
    words += ["--state", str(tmp_path / "nothing-here")]
    listed = platform.run(*words, "ps", "-o", "json").json
    assert component in json.dumps(listed)


def test_the_port_stays_when_the_hub_is_killed(
    platform: Any, outside: Outside, wait_until: Callable[..., Any]
) -> None:
    reader = bearer(outside.token("reader"))
    os.kill(platform.agent("hub"), signal.SIGKILL)
    platform.disconnect()
    wait_until(lambda: outside.curl(*reader, body=rpc("cluster.status"))[0] == 200)
