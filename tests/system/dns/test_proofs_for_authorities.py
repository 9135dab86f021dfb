"""Whole: a gateway on a cluster, the alias of the how-to, the cluster's names, an authority."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

NAME = "shop.paas.internal"
SECURE = 18_443
VOLUME = '\n[volumes.acme]\npath = "/data"\nsize = "8M"\n'


@pytest.fixture
def authority(named: Any, tmp_path: Path) -> Iterator[str]:
    """Pebble, which the cluster's machines see as a piece of the world: its host:port.

    It asks node n1 for names, as it would ask the servers that the zone is delegated to.
    """
    host = named.cluster.machine("n1").address.rsplit(".", 1)[0] + ".254"
    api, management = (_free_port(host) for _ in range(2))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=authority", "-addext"),
            *(f"subjectAltName=IP:{host}", "-keyout", str(tmp_path / "a.key")),
            *("-out", str(tmp_path / "a.pem")),
        ],
        check=True,
        capture_output=True,
    )
    configuration = {
        "listenAddress": f"{host}:{api}",
        "managementListenAddress": f"{host}:{management}",
        "certificate": str(tmp_path / "a.pem"),
        "privateKey": str(tmp_path / "a.key"),
        "httpPort": 1,
        "tlsPort": 1,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (tmp_path / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    server = ":".join(named.server("n1"))
    process = subprocess.Popen(
        ["pebble", "-config", str(tmp_path / "pebble.json"), "-dnsserver", server],
        env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"{host}:{api}"
    process.kill()
    process.wait()


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as one:
        return int(one.getsockname()[1])


def shown(host: str) -> x509.Certificate | None:
    """What the gateway shows for a name below; None while it does not listen."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        try:
            plain = stack.enter_context(socket.create_connection((host, SECURE), 5))
            name = f"any.{NAME}"
            secure = stack.enter_context(context.wrap_socket(plain, server_hostname=name))
        except OSError:
            return None
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")


def by_authority(host: str) -> x509.Certificate | None:
    """What the authority gave, once it is shown."""
    found = shown(host)
    return found if found and "Pebble" in found.issuer.rfc4514_string() else None


def test_a_wildcard_of_the_clusters_zone_is_certified(
    named: Any, authority: str, tmp_path: Path
) -> None:
    cluster = named.cluster
    folder = tmp_path / "gateway"
    cluster.run("gateway", "build", str(folder), "--publish-tls", str(SECURE), "--allow", authority)
    (folder / "ca.pem").write_text((tmp_path / "a.pem").read_text())
    manifest = folder / "component.toml"
    manifest.write_text(manifest.read_text() + VOLUME)
    alias = f"_acme-challenge.{NAME}.gateway.app"
    cluster.run("dns", "publish", "_acme-challenge.shop", "CNAME", alias)
    acme = {
        "directory": f"https://{authority}/dir",
        "names": [[f"*.{NAME}", NAME]],
        "challenge": "dns-01",
        "folder": "/data/acme",
        "fetcher": {"authorities": "/app/ca.pem", "private": ["10.0.0.0/8"]},
    }
    component = cluster.create(
        cluster.push(folder), configuration={"acme": acme}, constraints=["node=n2"]
    )
    host = cluster.machine("n2").address
    first = cluster.until(lambda: by_authority(host), timeout_s=90)
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(names.get_values_for_type(x509.DNSName)) == sorted([f"*.{NAME}", NAME])
    # Nothing is left of the proof, and a gateway that begins anew has its certificate still.
    cluster.until(lambda: named.name("n1", alias, "TXT") == [])
    before = cluster.component(component)
    named.kill(component, "paas.gateway.component.main")
    cluster.until(lambda: cluster.component(component)["restarts"] > before["restarts"])
    again = cluster.until(lambda: by_authority(host), timeout_s=60)
    assert again.serial_number == first.serial_number
    cluster.api("controller.destroy", component=component, grace=0.0)
    cluster.run("dns", "withdraw", "_acme-challenge.shop", "CNAME")
