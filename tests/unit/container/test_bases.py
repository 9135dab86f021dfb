"""The base `host` takes what is public and leaves the rest."""

from __future__ import annotations

import os
from pathlib import Path

from paas.real.kernel_bases import prepare_host_base


def test_only_listed_public_files_of_etc(tmp_path: Path) -> None:
    host = tmp_path / "host"
    for name in ("usr/share/zoneinfo", "etc/ssl/certs", "etc/ssl/private", "root", "lib64"):
        (host / name).mkdir(parents=True)
    (host / "bin").symlink_to("usr/bin")
    (host / "etc/services").write_text("http 80/tcp\n")
    (host / "etc/shadow").write_text("secret")
    (host / "etc/ssl/private/key.pem").write_text("secret")
    (host / "etc/ssl/certs/ca.pem").write_text("public")
    hidden = host / "etc/ssl/certs/hidden.pem"
    hidden.write_text("secret")
    hidden.chmod(0o600)
    (host / "etc/ssl/certs/escape.pem").symlink_to("/home/somebody/key")
    (host / "etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    base = prepare_host_base(str(tmp_path / "base"), str(host))
    etc = tmp_path / "base/etc"
    assert (etc / "services").read_text() == "http 80/tcp\n"
    assert (etc / "ssl/certs/ca.pem").exists()
    assert os.readlink(etc / "localtime") == "/usr/share/zoneinfo/UTC"
    for name in ("shadow", "ssl/private", "ssl/certs/hidden.pem", "ssl/certs/escape.pem"):
        assert not os.path.lexists(etc / name)
    assert "component:x:1000" in (etc / "passwd").read_text()
    assert list((tmp_path / "base/root").iterdir()) == []
    assert os.readlink(tmp_path / "base/bin") == "usr/bin"
    assert base.binds == ((f"{host}/usr", "/usr"), (f"{host}/lib64", "/lib64"))


def test_preparing_again_leaves_what_containers_stand_on(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "usr").mkdir(parents=True)
    first = prepare_host_base(str(tmp_path / "base"), str(host))
    before = (tmp_path / "base/etc").stat()
    assert prepare_host_base(str(tmp_path / "base"), str(host)) == first
    after = (tmp_path / "base/etc").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_another_host_makes_another_tree_and_keeps_the_old_one(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "usr").mkdir(parents=True)
    (host / "etc").mkdir()
    for text in ("one", "two", "three"):
        (host / "etc/services").write_text(text * 10)
        prepare_host_base(str(tmp_path / "base"), str(host))
        assert (tmp_path / "base/etc/services").read_text() == text * 10
    assert (tmp_path / "base.1/etc/services").read_text() == "one" * 10
    assert (tmp_path / "base.2/etc/services").read_text() == "two" * 10


def test_a_tree_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "usr").mkdir(parents=True)
    prepare_host_base(str(tmp_path / "base"), str(host))
    (tmp_path / "base.facts").unlink()
    (tmp_path / "base/etc/stray").write_text("x")
    prepare_host_base(str(tmp_path / "base"), str(host))
    assert not (tmp_path / "base/etc/stray").exists()
