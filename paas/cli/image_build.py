"""`paas images build debian-12`: a minimal Debian from its packages, by mmdebstrap (io).

    mmdebstrap --variant=minbase ──> tar ──> image of one layer ──> sent like any other

The packages come from where this machine's own come from, if its sources have that release; else
from Debian's mirror network.  Signatures of the packages are checked by apt, with the keys of this
machine.  Manuals, documentation and translations are left out.  Times are bounded by the release's,
so that the same packages give the same layer.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.cli import image, limits, texts
from paas.cli.session import Session
from paas.oci import documents
from paas.oci.documents import Defaults
from paas.oci.source import open_image
from paas.oci.target import Writer

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
_INCLUDED = ("/usr/share/doc/*/copyright",)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One release: its suite, and when it came out (seconds since 1970)."""

    suite: str
    epoch: int


RECIPES = {
    "debian-12": Recipe("bookworm", 1_686_355_200),
    "debian-13": Recipe("trixie", 1_754_697_600),
}


def build(
    session: Session,
    *,
    recipe: str,
    name: str | None,
    include: tuple[str, ...],
    replace: bool,
    request_id: str | None,
    dry_run: bool,
) -> int:
    """Print the name that manifests give as their base."""
    known = RECIPES.get(recipe)
    if known is None:
        raise PlatformError(
            "invalid",
            f"{recipe}: it is not known how to build this",
            hint=f"one of {', '.join(RECIPES)}; other images: paas images import PATH",
        )
    packages = _packages(include)
    wanted = name or recipe
    if dry_run:
        value = {"would": "build", "recipe": recipe, "name": wanted, "packages": packages}
        session.output.value(value, f"would build {recipe} as {wanted}", [wanted])
        return Exit.DONE
    if shutil.which("mmdebstrap") is None:
        raise PlatformError(
            "unsupported",
            "mmdebstrap is not on this machine",
            hint="apt-get install mmdebstrap, or: paas images import PATH",
        )
    session.call("image.list")  # is there a cluster, before minutes are spent
    with tempfile.TemporaryDirectory(prefix="paas-build-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # mmdebstrap may give up being root
        _bootstrap(session, known, packages, root / "root.tar")
        layout = root / "image"
        layout.mkdir()
        _wrap(session, recipe, root / "root.tar", layout)
        found = open_image(layout, root)
        image.send(session, found, wanted, recipe, replace=replace, request_id=request_id)
    return Exit.DONE


def _packages(include: tuple[str, ...]) -> list[str]:
    names = [name for words in include for name in words.split(",") if name]
    for name in names:
        if not _PACKAGE.fullmatch(name):
            raise PlatformError("invalid", f"--include: {name!r} is no package's name")
    return names


def _bootstrap(session: Session, recipe: Recipe, packages: list[str], out: Path) -> None:
    """Run mmdebstrap; its own steps are shown with their times."""
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", f"--keyring={_KEYRING}"]
    command.append("--dpkgopt=force-unsafe-io")  # what is half written after a crash is not used
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    command += [f"--dpkgopt=path-include={pattern}" for pattern in _INCLUDED]
    if packages:
        command.append("--include=" + ",".join(packages))
    own = sources(recipe.suite)
    command += [recipe.suite, str(out), *(["-"] if own else [])]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(recipe.epoch), "LC_ALL": "C.UTF-8"}
    started, tail = time.monotonic(), list[str]()
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            process.stdin.write("\n".join(own) + "\n")
            process.stdin.close()
            for line in _lines(process.stderr):
                tail = [*tail[-limits.BUILD_LOG_LINES :], line]
                if line.startswith("I: "):
                    session.output.note(f"{time.monotonic() - started:6.1f}s  {line[3:]}")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            raise
    if process.returncode:
        raise PlatformError(
            "failed", f"mmdebstrap ended with status {process.returncode}", lines=tail
        )


def _lines(stream: Iterator[str]) -> Iterator[str]:
    """Whole lines: what moves a progress bar ends with a carriage return."""
    for line in stream:
        yield line.rstrip("\n").rsplit("\r", 1)[-1]


def _wrap(session: Session, recipe: str, tar: Path, layout: Path) -> None:
    """The tar as an image of one layer."""
    since = time.monotonic()
    writer = Writer(layout)
    with tar.open("rb") as file:
        layer = writer.add_layer(iter(lambda: file.read(limits.UPLOAD_PIECE_BYTES), b""))
    architecture = documents.own_architecture(platform.machine())
    settings = Defaults(environment={"PATH": _PATH})
    writer.finish(recipe, settings, architecture, [f"mmdebstrap {recipe}"])
    session.output.note(
        f"packed {texts.size(tar.stat().st_size)}B to {texts.size(layer.size)}B "
        f"in {time.monotonic() - since:.1f}s"
    )


def sources(suite: str, etc: Path = Path("/etc/apt")) -> list[str]:
    """Lines for apt: this machine's own sources of the release; without any, mmdebstrap knows
    Debian's."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    found = []
    for file in files:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = file.read_text()
            found += _stanzas(text) if file.suffix == ".sources" else _one_line(text)
    kept = [
        f"deb {uri} {named} main"
        for uri, named, components in found
        if named.partition("-")[0] == suite
        and named.partition("-")[2] in ("", "updates", "security")
        and "main" in components
        and "debian" in uri
    ]
    if not any(line.endswith(f" {suite} main") for line in kept):
        return []
    return list(dict.fromkeys(kept))


Source = tuple[str, str, list[str]]
"""Address, suite, components."""


def _one_line(text: str) -> list[Source]:
    found: list[Source] = []
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", "", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            found.append((words[1], words[2], words[3:]))
    return found


def _stanzas(text: str) -> list[Source]:
    """The form of fields and values, several addresses and suites in one."""
    found: list[Source] = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            key.strip().lower(): value.split()
            for key, colon, value in (line.partition(":") for line in stanza.splitlines())
            if colon
        }
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            found += [
                (uri, suite, fields.get("components", []))
                for uri in fields.get("uris", [])
                for suite in fields.get("suites", [])
            ]
    return found
