"""Files into and out of containers that run, and what a hostile component cannot make of it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.entering import Entering
from paas.container.inside import Inside, error_of
from paas.container.messages import Limits

pytestmark = pytest.mark.system


def inner(node: Any, component: str) -> Path:
    """The container's tree, as the host can see it."""
    return Path(f"/proc/{node.engine.containers[component].context.record.pid}/root")


async def read(entering: Entering, component: str, path: str, **more: Any) -> bytes:
    inside = await entering.copy(component, path, write=False, name="", **more)
    try:
        with trio.fail_after(30):
            found = await _all(inside)
            await inside.wait()
        if inside.failure is not None:
            raise error_of(inside.failure)
        return found
    finally:
        entering.close(inside)


async def _all(inside: Inside) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(inside.outputs[0], 65_536)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(inside.outputs[0])
            continue
        if not data:
            return found
        found += data


async def write(
    entering: Entering, component: str, path: str, data: bytes, name: str = "file", **more: Any
) -> dict[str, Any]:
    inside = await entering.copy(component, path, write=True, name=name, **more)
    try:
        with trio.fail_after(60):
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(inside.input_fd, view) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(inside.input_fd)
                except BrokenPipeError:
                    break
            inside.close_input()
            await inside.wait()
        if inside.failure is not None:
            raise error_of(inside.failure)
        return inside.copied
    finally:
        entering.close(inside)


def tar(content: bytes, name: str = "x", mode: int = 0o640) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def content(data: bytes) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            found[info.name] = info.linkname if file is None else file.read()
    return found


async def test_what_is_written_belongs_to_the_component(
    node: Any, entering: Entering, component: str
) -> None:
    facts = await write(entering, component, "/app", tar(b"text"), "note")
    assert facts == {"files": 1, "bytes": 4, "skipped": 0, "named": []}
    file = inner(node, component) / "app" / "note"
    base = node.engine.containers[component].context.record.uid_base
    assert file.read_text() == "text"
    assert (file.stat().st_uid - base, file.stat().st_mode & 0o777) == (1000, 0o640)
    assert content(await read(entering, component, "/app/note")) == {"note": b"text"}
    await write(entering, component, "/run", tar(b"r"), "by-root", root=True)
    assert (inner(node, component) / "run/by-root").stat().st_uid == base


async def test_only_what_the_component_may_read_and_write(
    node: Any, entering: Entering, component: str
) -> None:
    with pytest.raises(PlatformError, match="denied"):
        await write(entering, component, "/etc", tar(b"x"), "hosts")
    secret = inner(node, component) / "run/secret"
    secret.write_text("of user 0")
    base = node.engine.containers[component].context.record.uid_base
    os.chown(secret, base, base)
    secret.chmod(0o600)
    with pytest.raises(PlatformError, match="denied"):
        await read(entering, component, "/run/secret")
    assert content(await read(entering, component, "/run/secret", root=True)) == {
        "secret": b"of user 0"
    }


async def test_a_link_leads_nowhere_outside(
    node: Any, entering: Entering, component: str, tmp_path: Path
) -> None:
    """An absolute link, however it came there, means a place inside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of the host")
    os.symlink(outside, inner(node, component) / "tmp" / "way")
    with pytest.raises(PlatformError, match="No such file"):
        await read(entering, component, "/tmp/way/secret")
    with pytest.raises(PlatformError):
        await write(entering, component, "/tmp/way/", tar(b"x"))
    with pytest.raises(PlatformError):
        await read(entering, component, f"/proc/self/root{'/..' * 6}{outside}")
    assert sorted(p.name for p in outside.iterdir()) == ["secret"]
    root = "/proc/1/root"
    for path in (f"{root}/etc/hostname", "/proc/1/fd", "/proc/self/fd/3"):
        with pytest.raises(PlatformError):
            await read(entering, component, path)


async def test_exchanging_a_directory_for_a_link_meanwhile_leads_nowhere(
    node: Any, entering: Entering, tmp_path: Path
) -> None:
    """A component that does nothing but exchange, against copies in both directions."""
    program = (
        "import os, time\nos.makedirs('/tmp/d/e', exist_ok=True)\n"
        "open('/tmp/d/e/f','w').write('mine')\n"
        "os.symlink('/etc', '/tmp/l')\n"
        "while True:\n"
        "    os.rename('/tmp/d', '/tmp/k'); os.rename('/tmp/l', '/tmp/d')\n"
        "    os.rename('/tmp/d', '/tmp/l'); os.rename('/tmp/k', '/tmp/d')\n"
        "    time.sleep(0.0002)\n"
    )
    started = await node.start("/usr/bin/python3", "-I", "-c", program)
    top = inner(node, started.component) / "tmp"
    with trio.fail_after(20):
        while not (top / "l").is_symlink() and not (top / "k").exists():  # noqa: ASYNC110
            await trio.sleep(0.01)
    for _ in range(8):
        try:
            found = content(await read(entering, started.component, "/tmp"))
        except PlatformError:
            continue
        assert not [name for name in found if name.endswith(("/passwd", "/hosts"))], found
    for _ in range(8):
        try:
            await write(entering, started.component, "/tmp/d/e", tar(b"x"), "hostname")
        except PlatformError:
            continue
    assert (inner(node, started.component) / "etc/hostname").read_text() != "x"


async def test_the_quota_holds(node: Any, entering: Entering, small: Limits) -> None:
    started = await node.start("/bin/sleep", "600", limits=small)
    with pytest.raises(PlatformError) as caught:
        await write(entering, started.component, "/app", tar(bytes(20 << 20)), "large")
    assert caught.value.code == "storage-full"
    assert list((inner(node, started.component) / "app").iterdir()) == []
    await write(entering, started.component, "/app", tar(b"small"), "small")


async def test_a_stream_that_is_no_archive_is_refused(entering: Entering, component: str) -> None:
    with pytest.raises(PlatformError) as caught:
        await write(entering, component, "/tmp", b"no tar at all" * 100)
    assert caught.value.code == "invalid"
    with pytest.raises(PlatformError) as caught:
        await write(entering, component, "/tmp", tar(b"x", name="a/../../x"))
    assert caught.value.code == "invalid"
    with pytest.raises(PlatformError) as caught:
        await read(entering, component, "tmp")
    assert caught.value.data["field"] == "path"


async def test_special_files_are_not_read(entering: Entering, component: str) -> None:
    with pytest.raises(PlatformError) as caught:
        await read(entering, component, "/dev/zero")
    assert caught.value.code == "invalid"
