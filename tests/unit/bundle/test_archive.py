"""One tree, one archive: byte for byte, on every machine; and what comes out is what went in."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.bundle import archive, digest, files, limits
from paas.bundle.build import build, manifest_of
from paas.bundle.extract import extract

MANIFEST = '[component]\nname = "a"\nversion = "1"\ncommand = ["x"]\n'

_name = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), exclude_characters="/"),
    min_size=1,
    max_size=60,
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= limits.NAME_BYTES_MAX)
_content = st.binary(max_size=2000)
_tree = st.recursive(
    st.dictionaries(_name, st.tuples(_content, st.booleans()), max_size=4),
    lambda inner: st.dictionaries(_name, st.tuples(_content, st.booleans()) | inner, max_size=4),
    max_leaves=10,
)


def lay_out(root: Path, tree: dict[str, object]) -> None:
    for name, item in tree.items():
        path = root / name
        if isinstance(item, dict):
            path.mkdir()
            lay_out(path, item)
        else:
            content, executable = item  # type: ignore[misc]
            path.write_bytes(content)
            path.chmod(0o755 if executable else 0o644)


def read_back(root: Path) -> dict[str, object]:
    return {
        path.name: read_back(path)
        if path.is_dir()
        else (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        for path in root.iterdir()
    }


def packed(directory: Path) -> bytes:
    pieces: list[bytes] = []
    archive.write(directory, pieces.append)
    return b"".join(pieces)


@settings(max_examples=30, deadline=None)
@given(_tree)
def test_what_is_unpacked_is_what_was_packed(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "source"), Path(folder, "out")
        source.mkdir()
        (source / ".paasignore").write_text("!*\n")
        lay_out(source, {k: v for k, v in tree.items() if k != ".paasignore"})
        data = packed(source)
        extract([data], out, digest.of(data))
        found = read_back(out)
        (source / ".paasignore").chmod(0o644)
        expected = read_back(source)
        assert found == expected
        files.remove_tree(out)


_BUILD = """
import os, sys
from pathlib import Path
from paas.bundle import build
listdir = os.listdir
if sys.argv[3] == "reversed":
    os.listdir = lambda path: sorted(listdir(path), reverse=True)
print(build.build(Path(sys.argv[1]), Path(sys.argv[2])).digest)
"""


def test_the_bytes_depend_on_nothing_but_the_tree(tmp_path: Path) -> None:
    digests = []
    runs = [("1", 0o022, 10**9, "as found"), ("2", 0o077, 15 * 10**8, "reversed")]
    for number, (seed, mask, time, order) in enumerate(runs):
        source = tmp_path / f"copy{number}"
        before = os.umask(mask)
        try:
            source.mkdir()
            names = [f"file{n}" for n in range(50)]
            for name in names if number == 0 else reversed(names):
                (source / name).write_text(name * 1000)
            (source / "component.toml").write_text(MANIFEST)
            (source / "bin").mkdir()
            (source / "bin" / "run").write_text("x")
            (source / "bin" / "run").chmod(0o755 if number == 0 else 0o700)
            (source / "link").symlink_to("bin/run")
            for path in source.rglob("*"):
                os.utime(path, (time, time), follow_symlinks=False)
        finally:
            os.umask(before)
        done = subprocess.run(
            [sys.executable, "-c", _BUILD, str(source), str(tmp_path / f"out{number}"), order],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            umask=mask,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(done.stdout)
    assert digests[0] == digests[1]
    assert (tmp_path / "out0").read_bytes() == (tmp_path / "out1").read_bytes()


def test_the_format_has_not_changed(tmp_path: Path) -> None:
    """A new version of the compressor or of this package must not rename all bundles silently."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("hello\n" * 1000)
    (tmp_path / "component.toml").write_text(MANIFEST)
    (tmp_path / "link").symlink_to("sub/a")
    assert digest.of(packed(tmp_path)) == KNOWN


KNOWN = "sha256:5ff3f829bd728d3f04798720bb5d1dbbd10dec8962fcc2a4f17f63f22fe15786"


def test_any_tar_tool_can_read_a_bundle(tmp_path: Path) -> None:
    source = tmp_path / "source"
    long = "d" * 120
    (source / long / long).mkdir(parents=True)
    (source / long / long / "file").write_text("x")
    (source / "ordinary").write_text("y")
    plain = tmp_path / "plain.tar"
    plain.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(packed(source)))
    with tarfile.open(plain) as tar:
        assert tar.getnames() == [long, f"{long}/{long}", f"{long}/{long}/file", "ordinary"]
        assert {(m.uid, m.gid, m.uname, m.mtime) for m in tar} == {(0, 0, "", 0)}


def test_ignored_files_stay_out_and_the_manifest_never_does(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (".git/config", "__pycache__/a.pyc", "keep/a.py", "build/out", "notes.log"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    (source / "component.toml").write_text(MANIFEST)
    (source / ".paasignore").write_text("# mine\nbuild/\n*.log\n*.toml\n")
    names = [entry.path.decode() for entry, _ in archive.read([packed(source)])]
    assert names == ["component.toml", "keep", "keep/a.py"]


def test_a_build_tells_what_it_made_and_the_manifest_can_be_read_from_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "component.toml").write_text(MANIFEST)
    (source / "x").write_text("hello")
    built = build(source, tmp_path / "out.bundle")
    data = (tmp_path / "out.bundle").read_bytes()
    assert (built.digest, built.size, built.entries) == (digest.of(data), len(data), 2)
    assert manifest_of([data]) == built.manifest
    assert built.manifest.type_name == "a@1"


@pytest.mark.parametrize("missing", ["directory", "manifest"])
def test_a_build_without_source_or_manifest_says_so(tmp_path: Path, missing: str) -> None:
    source = tmp_path / "source"
    if missing == "manifest":
        source.mkdir()
    with pytest.raises(PlatformError, match=missing):
        build(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_build_leaves_no_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "component.toml").write_text(MANIFEST)
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(PlatformError, match='"link": the link\'s target is absolute'):
        build(source, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_a_bundle_without_a_manifest_is_refused() -> None:
    data = zstd_of_nothing()
    with pytest.raises(PlatformError, match=r"component\.toml.*does not have"):
        manifest_of([data])


def zstd_of_nothing() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return packed(Path(folder))


def test_an_error_in_the_manifest_inside_of_a_bundle_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "component.toml").write_text(MANIFEST + "nope = 1\n")
    with pytest.raises(PlatformError, match=r"component\.toml:5: component\.nope"):
        manifest_of([packed(tmp_path)])


def test_sockets_pipes_and_devices_cannot_be_packed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PlatformError, match='"pipe"'):
        packed(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(PlatformError, match='"s"'):
            packed(tmp_path)


@pytest.mark.parametrize("name", [b"a\nb", b"\xff"])
def test_names_that_no_bundle_may_have_cannot_be_packed(tmp_path: Path, name: bytes) -> None:
    Path(tmp_path / os.fsdecode(name)).write_text("x")
    with pytest.raises(PlatformError, match="a name"):
        packed(tmp_path)


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        ("ENTRIES_MAX", 2, "more than 2 entries"),
        ("FILE_BYTES_MAX", 10, "more than 10 bytes"),
        ("UNPACKED_BYTES_MAX", 2000, "more than 2000 bytes"),
        ("BUNDLE_BYTES_MAX", 20, "more than 20 bytes"),
        ("DEPTH_MAX", 1, "nested more than 1"),
        ("PATH_BYTES_MAX", 4, "more than 4 bytes"),
        ("IGNORE_FILE_BYTES_MAX", 1, "more than 1 bytes"),
    ],
)
def test_the_builder_obeys_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, expected: str
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("hello world")
    (tmp_path / "other").write_text("x")
    (tmp_path / ".paasignore").write_text("# x\n")
    monkeypatch.setattr(limits, limit, value)
    with pytest.raises(PlatformError, match=expected) as caught:
        packed(tmp_path)
    assert caught.value.code == "limit-exceeded"


def test_a_file_of_zeros_is_refused_when_packing_like_when_unpacking(tmp_path: Path) -> None:
    with open(tmp_path / "zeros", "wb") as file:
        file.truncate(64 << 20)
    with pytest.raises(PlatformError, match="200-fold"):
        packed(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"x" * 100)
    encode = archive.tar_format.encode

    def encode_and_grow(entry: archive.Entry) -> bytes:
        with open(tmp_path / "log", "ab") as file:
            file.write(b"more")
        return encode(entry)

    monkeypatch.setattr(archive.tar_format, "encode", encode_and_grow)
    with pytest.raises(PlatformError, match="changed") as caught:
        packed(tmp_path)
    assert caught.value.code == "conflict"
