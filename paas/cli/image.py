"""Commands about base layers: list, show, import, remove, verify (io).

    PATH ── image read, checked ── layers that the cluster lacks sent ── registered under a name

An image is read on this side and verified on the other: nothing is kept there because it was said
here.  Sending again what is there already costs a question a layer.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.cli import limits, texts, watching
from paas.cli.output import Column
from paas.cli.session import Session
from paas.oci.documents import Layer
from paas.oci.source import Found, open_image

DIGEST_SHOWN = len("sha256:") + 12
_NAME_LENGTH_MAX = 63


def images(session: Session, *, watch: bool) -> None:
    columns: tuple[Column, ...] = (
        ("NAME", lambda i: i["name"]),
        ("IMAGE", lambda i: i["manifest"][:DIGEST_SHOWN]),
        ("SIZE", lambda i: texts.size(i["size"])),
        ("LAYERS", lambda i: str(len(i["layers"]))),
        ("SINCE", lambda i: texts.age(time.time() - i["since"])),
        ("TYPES", lambda i: ", ".join(i["types"]) or "-"),
        ("SOURCE*", lambda i: i["source"]),
    )
    watching.show(
        session,
        lambda: session.call("image.list")["images"],
        lambda items: session.output.rows("images", items, columns, "name"),
        watch,
    )


def show(session: Session, *, name: str) -> None:
    found = session.call("image.show", {"name": name})
    lines = [
        ("name", found["name"]),
        ("image", found["manifest"]),
        ("source", found["source"] or "-"),
        ("since", texts.moment(found["since"])),
        ("for", found["architecture"] or "-"),
        ("command", " ".join(found["command"]) or "-"),
        ("environment", texts.fields(found["environment"]) or "-"),
        ("directory", found["directory"] or "-"),
        ("user", found["user"] or "-"),
        ("types", ", ".join(found["types"]) or "-"),
    ]
    lines += [("layer", f"{x['diff_id']}  {texts.size(x['size'])}B") for x in found["layers"]]
    text = "\n".join(f"{key:<12} {value}" for key, value in lines)
    session.output.value(found, text, [found["name"]])


def import_(
    session: Session,
    *,
    path: str,
    name: str | None,
    image: str,
    replace: bool,
    request_id: str | None,
    dry_run: bool,
) -> int:
    """Print the name that manifests give as their base."""
    source = Path(path)
    if not source.exists():
        raise PlatformError("invalid", f"{path}: there is no such file or directory")
    with tempfile.TemporaryDirectory(prefix="paas-image-") as scratch:
        found = open_image(source, Path(scratch), reference=image)
        wanted = name or suggested_name(found.reference, source)
        if dry_run:
            value = {"would": "import", "name": wanted, "image": found.image.manifest_digest}
            session.output.value(value, f"would import {found.reference or path} as {wanted}")
            return Exit.DONE
        origin = found.reference or source.name
        send(session, found, wanted, origin, replace=replace, request_id=request_id)
    return Exit.DONE


def suggested_name(reference: str, path: Path) -> str:
    """ "docker.io/library/debian:12" is called debian-12; without a reference, as the file."""
    word = reference.rsplit("/", 1)[-1].partition("@")[0] or path.resolve().name.split(".")[0]
    word = re.sub(r"[^a-z0-9.-]+", "-", word.lower().replace(":", "-")).strip("-.")
    word = word.removesuffix("-latest")[:_NAME_LENGTH_MAX].rstrip("-.")
    if not word or not word[0].isalpha():
        raise PlatformError("invalid", "the image has no name that could be used", hint="--name")
    return word


def send(
    session: Session,
    found: Found,
    name: str,
    origin: str,
    *,
    replace: bool,
    request_id: str | None,
) -> None:
    """Upload what the cluster lacks, and register the image."""
    started = time.monotonic()
    count = len(found.image.layers)
    for number, layer in enumerate(found.image.layers, 1):
        since = time.monotonic()
        sent = send_layer(session, layer, found.chunks(layer))
        how = f"sent in {time.monotonic() - since:.1f}s" if sent else "was there already"
        session.output.note(
            f"layer {number} of {count}  {layer.digest[:DIGEST_SHOWN]}  "
            f"{texts.size(layer.size)}B  {how}"
        )
    params = {
        "name": name,
        "manifest": found.manifest,
        "config": found.config,
        "source": origin,
        "replace": replace,
    }
    value = session.change(
        "image.register",
        params,
        request_id=request_id,
        binary=True,
        timeout_s=limits.IMAGE_TIMEOUT_S,
    )
    took = time.monotonic() - started
    facts = f"({value['manifest'][:DIGEST_SHOWN]}…, {texts.size(value['size'])}B)"
    text = f"{session.output.state('ready')} {name}  {facts} in {took:.1f}s"
    session.output.value(value, text, [name])


def send_layer(session: Session, layer: Layer, chunks: Iterator[bytes]) -> bool:
    """Send a layer unless it is there; was anything sent?"""
    begun = session.change("image.begin", {"digest": layer.digest, "size": layer.size}, binary=True)
    if begun["present"]:
        return False
    offset = 0
    for piece in _pieces(chunks):
        params: dict[str, Any] = {"upload": begun["upload"], "offset": offset, "data": piece}
        session.change("image.append", params, binary=True)
        offset += len(piece)
    params = {"upload": begun["upload"], "digest": layer.digest, "diff_id": layer.diff_id}
    session.change("image.commit", params, binary=True, timeout_s=limits.IMAGE_TIMEOUT_S)
    return True


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= limits.UPLOAD_PIECE_BYTES:
            yield bytes(held[: limits.UPLOAD_PIECE_BYTES])
            del held[: limits.UPLOAD_PIECE_BYTES]
    if held:
        yield bytes(held)


def remove(session: Session, *, name: str, yes: bool, dry_run: bool, request_id: str | None) -> int:
    session.call("image.show", {"name": name})
    if dry_run:
        value = {"would": "remove", "name": name}
        session.output.value(value, f"would forget {name}", [name])
        return Exit.DONE
    if not session.confirmed(f"This forgets the image {name}", name, yes):
        return Exit.FAILED
    session.change("image.remove", {"name": name}, request_id=request_id)
    session.output.value({"name": name, "removed": True}, f"{name} is forgotten", [name])
    return Exit.DONE


def verify(session: Session, *, name: str) -> int:
    """Every node that has it reads it again; 1 when something was damaged."""
    found = session.call("image.verify", {"name": name}, timeout_s=limits.IMAGE_TIMEOUT_S)
    columns: tuple[Column, ...] = (
        ("NODE", lambda n: n["node"]),
        ("LAYERS", lambda n: str(n["layers"])),
        ("UNPACKED", lambda n: "yes" if n["unpacked"] else "no"),
        ("DAMAGED", lambda n: ", ".join(n["damaged"]) or "-"),
    )
    session.output.rows("nodes", found["nodes"], columns, "node")
    for node in found["missing"]:
        session.output.note(f"node {node} did not answer")
    damaged = any(node["damaged"] for node in found["nodes"])
    return Exit.FAILED if damaged or found["missing"] else Exit.DONE
