"""push, bundles, keys: what is built, sent and trusted."""

from __future__ import annotations

import stat

import pytest

from paas.base.errors import Exit
from paas.bundle import build
from paas.cli.push import build_source
from paas.cli.sdk_files import PYTHON as SDK_NAME


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "component.toml").write_text(
        '[component]\nname = "hello"\nversion = "1.0.0"\ncommand = ["python3", "main.py"]\n'
    )
    (folder / "main.py").write_text("x = 1\n")
    return folder


def test_push_prints_the_type_and_stores_the_bundle(paas, hub, source):
    done = paas("push", str(source), "-o", "name")
    assert done.out == "hello@1.0.0\n"
    assert len(hub.bundles) == 1
    assert "hello@1.0.0" in hub.types


def test_a_development_cluster_trusts_the_key_and_says_so_once(paas, hub, source):
    assert "now trusts your key" in paas("push", str(source)).err
    (source / "main.py").write_text("x = 2\n")
    assert "now trusts" not in paas("push", str(source)).err


def test_pushing_again_sends_nothing(paas, hub, source):
    paas("push", str(source))
    found = paas("push", str(source), "-o", "json").json()
    assert found["uploaded"] is False
    assert len(hub.sent("bundle.begin")) == 2
    assert len(hub.sent("bundle.commit")) == 1


def test_a_large_bundle_goes_in_pieces(paas, hub, source, monkeypatch):
    import os

    monkeypatch.setattr("paas.cli.limits.UPLOAD_PIECE_BYTES", 1000)
    (source / "data").write_bytes(os.urandom(5000))
    assert paas("push", str(source)).status == 0
    assert len(hub.sent("bundle.append")) > 5


def test_dry_run_builds_and_sends_nothing(paas, hub, source):
    assert "would push hello@1.0.0" in paas("push", str(source), "--dry-run").out
    assert hub.requests == []


def test_a_wrong_manifest_names_file_line_and_field(paas, hub, source):
    (source / "component.toml").write_text('[component]\nname = "hello"\nmemory = 1\n')
    done = paas("push", str(source))
    assert done.status == Exit.USAGE
    assert "component.toml:3: component.memory" in done.err
    assert paas("push", str(source / "nowhere")).status == Exit.USAGE


def test_the_sdk_is_put_into_the_bundle_and_not_into_the_source(source, tmp_path):
    plain = build_source(source, tmp_path)
    with (source / "component.toml").open("a") as file:
        file.write('sdk = "python"\n')
    built = build_source(source, tmp_path)
    assert built.entries == plain.entries + 1
    assert not (source / SDK_NAME).exists()
    again = tmp_path / "again"
    again.mkdir()
    assert build_source(source, again).digest == built.digest
    (source / SDK_NAME).write_text("# my own\n")
    own = build_source(source, tmp_path)
    assert own.digest == build.build(source, tmp_path / "b").digest


def test_the_key_is_made_at_first_use_for_its_owner_alone(paas, run, hub, source, places):
    paas("push", str(source))
    file = places / "data" / "paas" / "keys" / "publisher.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert run("keys", "-o", "json").json()["file"] == str(file)
    file.chmod(0o644)
    assert "can be read by others" in run("keys").err


def test_bundles_are_listed_trusted_and_removed(paas, hub, source, places):
    paas("push", str(source))
    (digest,) = paas("bundles", "-o", "name").out.split()
    public = places / "data" / "paas" / "keys" / "publisher.key.pub"
    assert paas("bundles", "trust", str(public), "--name", "me").status == 0
    assert paas("bundles", "trust", str(source / "nothing")).status == Exit.USAGE
    assert "would forget" in paas("bundles", "remove", digest, "--dry-run").out
    assert paas("bundles", "remove", digest, "--yes").status == 0
    assert paas("bundles", "remove", digest, "--yes").status == Exit.NOT_FOUND
