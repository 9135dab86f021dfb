"""A second opinion on what we make: the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from paas.identity import keys, x509

OPENSSL = shutil.which("openssl")


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert OPENSSL, "the openssl command is needed"
    return subprocess.run([OPENSSL, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def files(world, tmp_path: Path) -> tuple[str, str]:
    leaf = world.leaf(world.name("node"), keys.make_key())
    (tmp_path / "authority").write_bytes(world.authority_pem)
    (tmp_path / "leaf").write_bytes(x509.certificate_pem(leaf))
    return str(tmp_path / "authority"), str(tmp_path / "leaf")


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_verifies_the_chain_strictly(files, purpose: str) -> None:
    authority, leaf = files
    done = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority, leaf)
    assert done.returncode == 0, done.stdout + done.stderr


def test_openssl_refuses_a_name_outside_the_constraints(world, tmp_path: Path, files) -> None:
    foreign = type(world.name("hub"))("c2", "n1", "hub", "a1")
    leaf = world.leaf(foreign, keys.make_key())
    (tmp_path / "foreign").write_bytes(x509.certificate_pem(leaf))
    done = openssl("verify", "-CAfile", files[0], str(tmp_path / "foreign"))
    assert done.returncode != 0
    assert "permitted subtree violation" in done.stdout + done.stderr


def test_openssl_refuses_another_authority_of_the_same_name(files, make_world, tmp_path) -> None:
    other = tmp_path / "other"
    other.write_bytes(make_world().authority_pem)
    assert openssl("verify", "-CAfile", str(other), files[1]).returncode != 0


def test_openssl_reads_what_the_platform_document_asks_for(files) -> None:
    text = openssl("x509", "-in", files[1], "-noout", "-text").stdout
    assert "Subject: DC = c1, O = node, OU = n1, UID = a1" in text
    assert "URI:spiffe://c1/node/n1/agent/node/a1, DNS:a1.n1.c1" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    assert "spawn:hub" in text
    assert "ecdsa-with-SHA256" in text
    authority = openssl("x509", "-in", files[0], "-noout", "-text").stdout
    assert "CA:TRUE, pathlen:1" in authority
    assert "URI:c1" in authority
