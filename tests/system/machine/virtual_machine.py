"""A virtual machine that boots Debian's kernel on this machine's own files, read-only.

Its processor is emulated, as a machine of the tests need not be able to do better; a start takes
about ten seconds.  The files come by virtiofs, so nothing is copied or installed: tests inside see
the same tree, the same Python, the same tools.  What is written goes to a disk of its own.

Kernel: Debian's for clouds, from its package.  Sources: virtiofs (docs.kernel.org), initramfs
(docs.kernel.org, "ramfs, rootfs and initramfs").
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BUSYBOX = Path("/bin/busybox")
FILE_SERVER = "/usr/lib/qemu/virtiofsd"
DISK_BYTES = 4 << 30
MEMORY = "2048M"
DRIVERS = (
    *("virtio_pci", "virtio_blk", "virtiofs", "overlay", "loop", "btrfs", "xfs"),
    *("veth", "bridge", "br_netfilter", "vxlan", "dummy"),
    *("nf_tables", "nft_chain_nat", "nft_ct", "nft_masq", "nft_nat", "nft_meta_bridge"),
    *("nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6", "nft_reject_inet", "nf_conntrack_bridge"),
)


class VirtualMachine:
    """Built once in a folder, booted any number of times."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kernel, modules = _unpacked_kernel(folder)
        self._initial = folder / "initial.gz"
        _build_initial(folder / "initial", modules, self._initial)

    def run_tests(self, *arguments: str, timeout_s: float) -> str:
        """What pytest said inside; raises AssertionError when the machine did not end by itself."""
        disk, channel = self._folder / "disk", self._folder / "files"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
        server = _serve_files(channel, self._folder / "files.log")
        said = self._folder / "said.log"
        try:
            with said.open("wb") as words:
                subprocess.run(
                    self._command(disk, channel, arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    timeout=timeout_s,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            pass  # what it said shows where it stood
        finally:
            server.kill()
            server.wait()
            disk.unlink()
        text = said.read_text(errors="replace")
        assert "ended with" in text, text[-6_000:]
        return text

    def _command(self, disk: Path, channel: Path, arguments: Sequence[str]) -> list[str]:
        said = {
            "script": HERE / "inside.sh",
            "tree": ROOT,
            "python": sys.executable,
            "tests": ",".join(arguments),
        }
        words = " ".join(f"paas.{name}={value}" for name, value in said.items())
        return [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-smp", "2", "-m", MEMORY, "-nodefaults", "-nographic", "-no-reboot"),
            *("-serial", "stdio"),
            *("-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on"),
            *("-numa", "node,memdev=memory", "-chardev", f"socket,id=files,path={channel}"),
            *("-device", "vhost-user-fs-pci,chardev=files,tag=host"),
            *("-drive", f"file={disk},if=virtio,format=raw,cache=unsafe"),
            *("-kernel", str(self._kernel), "-initrd", str(self._initial)),
            *("-append", f"console=ttyS0 quiet panic=-1 mitigations=off psi=1 {words}"),
        ]


def _unpacked_kernel(folder: Path) -> tuple[Path, Path]:
    """(kernel, directory of its drivers) of the package that Debian has at the moment."""
    asked = ["apt-cache", "depends", "--important", "linux-image-cloud-amd64"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    name = next(word for word in listed.split() if word.startswith("linux-image-6"))
    subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True, check=True)
    (package,) = folder.glob(f"{name}_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "kernel"], check=True)
    package.unlink()
    release = name.removeprefix("linux-image-")
    subprocess.run([BUSYBOX, "depmod", "-b", folder / "kernel", release], check=True)
    return (
        folder / f"kernel/boot/vmlinuz-{release}",
        folder / "kernel/lib/modules" / release,
    )


def _in_order(modules: Path, wanted: Iterable[str]) -> list[str]:
    """The drivers' files, each after those that it needs."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[name] = rest.split()
    named = {Path(name).name.partition(".")[0].replace("-", "_"): name for name in needs}
    found: dict[str, None] = {}

    def add(name: str) -> None:
        for other in needs[name]:
            add(other)
        found.setdefault(name)

    for name in wanted:
        add(named[name])
    return list(found)


def _build_initial(tree: Path, modules: Path, target: Path) -> None:
    for directory in ("bin", "proc", "sys", "dev", "host", "drivers"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    shutil.copy(HERE / "init.sh", tree / "init")
    (tree / "init").chmod(0o755)
    for number, name in enumerate(_in_order(modules, DRIVERS)):
        shutil.copy(modules / name, tree / "drivers" / f"{number:03d}-{Path(name).name}")
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        [BUSYBOX, "cpio", "-o", "-H", "newc"],
        input=names.encode(),
        cwd=tree,
        capture_output=True,
        check=True,
    ).stdout
    target.write_bytes(gzip.compress(packed, 1))


def _serve_files(channel: Path, log: Path) -> subprocess.Popen[bytes]:
    """The server of this machine's files; it is there when its socket is."""
    channel.unlink(missing_ok=True)
    with log.open("wb") as words:
        server = subprocess.Popen(
            [
                *(FILE_SERVER, f"--socket-path={channel}", "-o", "source=/"),
                *("-o", "cache=always", "-o", "sandbox=chroot"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
        )
    for _ in range(500):
        if channel.exists():
            return server
        assert server.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(log.read_text())
