"""The `minisign` tool verifies what we sign, and we verify what it signs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.bundle import keys
from paas.bundle.build import build
from paas.bundle.signature import parse_public_key, prehash, verify

pytestmark = pytest.mark.system


@pytest.fixture
def minisign() -> str:
    tool = shutil.which("minisign")
    assert tool, "this test needs the minisign tool: apt-get install minisign"
    return tool


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "component.toml").write_text(
        '[component]\nname = "hello"\nversion = "1.0.0"\ncommand = ["x"]\n'
    )
    key = keys.load_or_generate(tmp_path / "key")
    built = build(source, tmp_path / "bundle")
    (tmp_path / "bundle.minisig").write_text(built.sign(key))
    return built.archive


def test_minisign_verifies_what_we_sign(minisign: str, bundle: Path, tmp_path: Path) -> None:
    done = run(minisign, "-V", "-p", tmp_path / "key.pub", "-m", bundle)
    assert done.returncode == 0, done.stderr
    assert "Trusted comment: hello@1.0.0 sha256:" in done.stdout


def test_minisign_refuses_what_was_changed(minisign: str, bundle: Path, tmp_path: Path) -> None:
    with bundle.open("ab") as file:
        file.write(b"x")
    assert run(minisign, "-V", "-p", tmp_path / "key.pub", "-m", bundle).returncode != 0


def test_minisign_signs_with_our_key(minisign: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.minisig").unlink()
    done = run(minisign, "-S", "-s", tmp_path / "key", "-m", bundle, "-t", "by hand")
    assert done.returncode == 0, done.stderr
    public = parse_public_key((tmp_path / "key.pub").read_text())
    text = (tmp_path / "bundle.minisig").read_text()
    signature = verify(text, prehash([bundle.read_bytes()]), {public.key_id: public})
    assert signature.comment == "by hand"


def test_we_use_keys_and_signatures_of_minisign(
    minisign: str, bundle: Path, tmp_path: Path
) -> None:
    done = run(minisign, "-G", "-W", "-p", tmp_path / "their.pub", "-s", tmp_path / "their.key")
    assert done.returncode == 0, done.stderr
    theirs = keys.load(tmp_path / "their.key")
    public = parse_public_key((tmp_path / "their.pub").read_text())
    assert theirs.public == public
    number = public.key_id.lstrip("0")  # minisign prints it without leading zeros
    assert number in (tmp_path / "their.pub").read_text()
    done = run(minisign, "-S", "-s", tmp_path / "their.key", "-m", bundle)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bundle.minisig").read_text()
    hashed = prehash([bundle.read_bytes()])
    verify(text, hashed, {public.key_id: public})
    with pytest.raises(PlatformError, match="is wrong"):
        verify(text, prehash([b"other"]), {public.key_id: public})


def test_a_legacy_signature_of_minisign_is_refused(
    minisign: str, bundle: Path, tmp_path: Path
) -> None:
    done = run(minisign, "-S", "-l", "-s", tmp_path / "key", "-m", bundle)
    assert done.returncode == 0, done.stderr
    public = parse_public_key((tmp_path / "key.pub").read_text())
    with pytest.raises(PlatformError, match="legacy"):
        verify(
            (tmp_path / "bundle.minisig").read_text(),
            prehash([bundle.read_bytes()]),
            {public.key_id: public},
        )
