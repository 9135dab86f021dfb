"""`paas push DIR`: check, build, sign, upload, register (io).

    DIR ── component.toml checked ── archive, digest ── signature ── upload ── type registered

The same directory gives the same digest, so pushing twice sends nothing the second time.  A source
that says `sdk = "python"` or `"node"` gets this version's SDK file into its archive.  A development
cluster on this machine trusts the developer's key at first use, and says so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.bundle.build import Built, build, read_manifest
from paas.bundle.keys import load, load_or_generate
from paas.bundle.limits import BUNDLE_BYTES_MAX
from paas.bundle.signature import SecretKey
from paas.cli import limits, texts
from paas.cli.bundle import key_file
from paas.cli.sdk_files import sdk_files
from paas.cli.session import Session


def push(
    session: Session,
    *,
    directory: str | None,
    key: str | None,
    request_id: str | None,
    dry_run: bool,
) -> int:
    """Print `name@version`."""
    started = time.monotonic()
    source = Path(directory or ".")
    with tempfile.TemporaryDirectory(prefix="paas-push-") as folder:
        built = build_source(source, Path(folder))
        if dry_run:
            plan = {"would": "push", "type": built.manifest.type_name, "digest": built.digest}
            text = f"would push {built.manifest.type_name} ({built.digest})"
            session.output.value(plan, text, [built.manifest.type_name])
            return Exit.DONE
        secret = load(Path(key)) if key else load_or_generate(key_file())
        sent = upload(session, built, secret)
        name = register(session, built, request_id)
    took = time.monotonic() - started
    value: dict[str, object] = {
        "type": name,
        "digest": built.digest,
        "size": built.size,
        "uploaded": sent,
    }
    how = "" if sent else ", was there already"
    digest = built.digest[: len("sha256:") + 12]
    facts = f"(bundle {digest}…, {texts.size(built.size)}B{how})"
    text = f"{session.output.state('ready')} {name}  {facts} in {took:.1f}s"
    session.output.value(value, text, [name])
    return Exit.DONE


def build_source(source: Path, folder: Path) -> Built:
    """The bundle of a source directory, in `folder`."""
    manifest = read_manifest(source)
    files = sdk_files(manifest.component.sdk)
    missing = {name: text for name, text in files.items() if not (source / name).exists()}
    if missing:
        source = with_files(source, folder / "source", missing)
    built = build(source, folder / "bundle")
    if built.size > BUNDLE_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded",
            f"the bundle has {built.size} bytes, at most {BUNDLE_BYTES_MAX} are allowed",
            hint="leave files out: write their names into .paasignore",
        )
    return built


def with_files(source: Path, copy: Path, files: dict[str, str]) -> Path:
    """The source with these files beside it; the developer's directory is not touched."""
    try:
        shutil.copytree(source, copy, symlinks=True, copy_function=_link_or_copy)
    except shutil.Error as exc:
        first = exc.args[0][0]
        raise PlatformError("invalid", f"{first[0]}: {first[2]}") from None
    for name, text in files.items():
        (copy / name).write_text(text, encoding="utf-8")
    return copy


def _link_or_copy(source: str, target: str) -> str:
    """Large files are not copied where a hard link does."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def upload(session: Session, built: Built, secret: SecretKey) -> bool:
    """Send the archive unless it is there; was anything sent?"""
    begun = session.change(
        "bundle.begin", {"digest": built.digest, "size": built.size}, binary=True
    )
    if begun["present"]:
        return False
    trust_own_key(session, secret)
    offset = 0
    with built.archive.open("rb") as file:
        while piece := file.read(limits.UPLOAD_PIECE_BYTES):
            params = {"upload": begun["upload"], "offset": offset, "data": piece}
            session.change("bundle.append", params, binary=True)
            offset += len(piece)
    params = {"upload": begun["upload"], "digest": built.digest, "signature": built.sign(secret)}
    session.change("bundle.commit", params, binary=True)
    return True


def trust_own_key(session: Session, secret: SecretKey) -> None:
    """A development cluster here belongs to whoever may use its socket: their key is good enough.

    Trusting a key that is trusted already changes nothing; it is announced only once, by a mark in
    the state of the developer (the cluster does not say whether it knew the key).
    """
    if not session.cluster().development:
        return
    params = {"public_key": secret.public.text(), "name": "developer"}
    session.change("bundle.trust", params, binary=True)
    mark = key_file().with_name(f"trusted-{session.cluster().name}-{secret.public.key_id}")
    if not mark.exists():
        session.output.note(
            f"this development cluster now trusts your key {secret.public.key_id} ({key_file()})"
        )
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch(mode=0o600)


def register(session: Session, built: Built, request_id: str | None) -> str:
    params = {"bundle": built.digest, "manifest": built.manifest.to_plain()}
    found = session.change("controller.register_type", params, request_id=request_id)
    return str(found["type"])
