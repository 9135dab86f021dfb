"""Who may speak where: harness socket, container controller, from outside of containers."""

import contextlib
import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system


def runtime(platform: Any) -> Path:
    return Path(json.loads((platform.state / "cluster.json").read_text())["runtime"])


def dial(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(10)
    sock.connect(str(path))
    return sock


def test_who_is_no_container_may_not_speak_on_the_harness_socket(platform: Any) -> None:
    """Not even root: a harness is known by the user that its container was given."""
    with dial(runtime(platform) / "harness" / "harness.sock") as sock:
        said = b""
        while data := sock.recv(4_096):
            said += data
    assert json.loads(said)["error"]["data"]["code"] == "denied"


def test_without_a_certificate_the_container_controller_says_nothing(platform: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    said = b""
    # TLS 1.3 tells of a missing certificate only after the handshake: by an alert, or the end.
    with dial(runtime(platform) / "containers.sock") as sock, contextlib.suppress(OSError):
        secured = context.wrap_socket(sock)
        secured.sendall(b"\x00\x00\x00\x01\x90")
        said = secured.recv(4_096)
    assert said == b""
    assert platform.api("cluster.status")["nodes"][0]["state"] == "available"


def test_without_tls_the_container_controller_says_nothing(platform: Any) -> None:
    with dial(runtime(platform) / "containers.sock") as sock:
        sock.sendall(b"\x00\x00\x00\x01\x90" * 100)
        try:
            said = sock.recv(4_096)
        except ConnectionResetError:
            said = b""
    assert b"jsonrpc" not in said
    assert platform.api("cluster.status")["nodes"][0]["state"] == "available"


def test_agents_run_as_users_of_their_own(platform: Any) -> None:
    users = {role: os.stat(f"/proc/{platform.agent(role)}").st_uid for role in ("hub", "node")}
    status = Path(f"/proc/{platform.agent('hub')}/status").read_text()
    assert users["node"] == 0
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert set(uids) == {"64010"}
    assert "CapEff:\t0000000000000000" in status
