"""`paas app`: deploy, look at, scale, stop, start and destroy applications (io).

    application.toml ── checked ── sources pushed ── application.deploy ── steps followed to the end

What is ordered goes on whether or not anybody waits for it; waiting ends with Ctrl-C, with
`--timeout`, or when it is clear that it will not come to its end by itself (app_following.py).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from paas.application.client import FILE_BYTES_MAX, FILE_NAME, Role, Specification, parse
from paas.base.errors import Exit, PlatformError
from paas.bundle import manifest as manifests
from paas.bundle.build import read_manifest
from paas.bundle.keys import load, load_or_generate
from paas.bundle.limits import MANIFEST_NAME
from paas.bundle.manifest import Manifest, Volume
from paas.cli import app_following as following
from paas.cli import app_texts, texts, watching
from paas.cli.bundle import key_file
from paas.cli.output import Column
from paas.cli.push import build_source, register, upload
from paas.cli.session import Session

DEFAULT_APPLICATION = "default"
"""What a manifest says that names none."""

VOLUME = "data"
"""The name of the volume that a role adds to its type."""


# -- deploying -------------------------------------------------------------------------------------


def deploy(
    session: Session,
    *,
    file: str | None,
    plan: bool,
    if_revision: int | None,
    no_wait: bool,
    timeout: float,
    key: str | None,
    request_id: str | None,
) -> int:
    """Print the application's status at the end; with `--plan` the steps."""
    path = Path(file or ".")
    path = path / FILE_NAME if path.is_dir() else path
    specification = read(path)
    name = partial(_plan_push, session) if plan else partial(_push, session, key)
    pushed = _with_types(specification, partial(name, path, specification.name))
    params: dict[str, Any] = {"specification": pushed.to_plain(), "plan": plan}
    if if_revision is not None:
        params["if_revision"] = if_revision
    was = following.before(session, specification.name)
    try:
        ordered = session.change("application.deploy", params, request_id=request_id)
    except PlatformError as exc:
        raise _in_file(exc, path) from None
    if plan:
        return _planned(session, ordered)
    return _follow(session, ordered, following.running, no_wait, timeout, was)


def read(path: Path) -> Specification:
    """The specification in a file; raises `invalid` naming file, line and field."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise PlatformError(
            "invalid",
            f"{path}: {exc.strerror}",
            hint="describe the application: docs/howto/deploy-an-application.md",
            file=str(path),
        ) from None
    return parse(text, str(path))


def _with_types(
    specification: Specification, name: Callable[[Role], tuple[str, bool]]
) -> Specification:
    """The same with a type for each source: `name` says it, and whether it has volumes."""
    roles, known = [], dict[tuple[str, object], tuple[str, bool]]()
    for role in specification.roles:
        if role.source:
            mark = (role.source, role.volume)
            if mark not in known:
                known[mark] = name(role)
            kind, keeps_files = known[mark]
            how = "stop-first" if keeps_files else role.replace
            role = structs.replace(role, type=kind, source="", volume=None, replace=how)
        roles.append(role)
    return structs.replace(specification, roles=tuple(roles))


def _plan_push(session: Session, path: Path, application: str, role: Role) -> tuple[str, bool]:
    """The type that would be pushed, and whether it has volumes; nothing is pushed."""
    directory = path.parent / role.source
    try:
        manifest = _adapted(read_manifest(directory), application, role)
    except PlatformError as exc:
        raise _about_source(exc, f"{path}: roles.{role.name}.source", directory) from None
    try:
        session.call("controller.type", {"type": manifest.type_name})
    except PlatformError as exc:
        if exc.code != "no-such-type":
            raise
    else:
        return manifest.type_name, False  # the hub knows
    session.output.note(f"would push {manifest.type_name} from {directory}")
    return manifest.type_name, bool(manifest.volumes)


def _push(
    session: Session, key: str | None, path: Path, application: str, role: Role
) -> tuple[str, bool]:
    """Register what is in the directory as a type of this application (the hub knows its rest)."""
    started = time.monotonic()
    where = f"{path}: roles.{role.name}.source"
    directory = path.parent / role.source
    with tempfile.TemporaryDirectory(prefix="paas-deploy-") as folder:
        try:
            built = build_source(directory, Path(folder))
            built = replace(built, manifest=_adapted(built.manifest, application, role))
            sent = upload(session, built, load(Path(key)) if key else load_or_generate(key_file()))
            name = register(session, built, None)
        except PlatformError as exc:
            raise _about_source(exc, where, directory) from None
    how = f"{texts.size(built.size)}B" if sent else "was there already"
    took = time.monotonic() - started
    session.output.note(f"{session.output.state('ready')} pushed {name}  ({how}) in {took:.1f}s")
    return name, False


def _about_source(exc: PlatformError, where: str, directory: Path) -> PlatformError:
    """The error, beginning with which role it is about."""
    hint = exc.hint
    if exc.code == "conflict" and "type" in exc.data:
        hint = f"it has changed: raise the version in {directory / MANIFEST_NAME}"
    return PlatformError(exc.code, f"{where}: {exc.message}", hint=hint, **exc.data)


def _adapted(manifest: Manifest, application: str, role: Role) -> Manifest:
    """The manifest with the application that it belongs to, and the volume that its role adds."""
    theirs = manifest.component.application
    if theirs not in (application, DEFAULT_APPLICATION):
        raise PlatformError(
            "invalid",
            f"component.application is {theirs!r}, not {application!r}",
            hint=f"write the same name into both files, or leave it out of {MANIFEST_NAME}",
        )
    changed = structs.replace(
        manifest, component=structs.replace(manifest.component, application=application)
    )
    if role.volume is not None:
        volume = Volume(**structs.asdict(role.volume))
        changed = structs.replace(changed, volumes={**manifest.volumes, VOLUME: volume})
    return manifests.from_plain(changed.to_plain())


def _in_file(exc: PlatformError, path: Path) -> PlatformError:
    """The hub's refusal of a specification, with the file that it came from."""
    if exc.data.get("param") != "specification" and not str(exc.data.get("field", "")).startswith(
        "roles."
    ):
        return exc
    message = exc.message.removeprefix("specification: ")
    return PlatformError(
        exc.code, f"{path}: {message}", hint=exc.hint, **{**exc.data, "file": str(path)}
    )


# -- changing --------------------------------------------------------------------------------------


def scale(
    session: Session,
    *,
    name: str,
    counts: tuple[str, ...],
    plan: bool,
    if_revision: int | None,
    no_wait: bool,
    timeout: float,
    request_id: str | None,
) -> int:
    was = following.before(session, name)
    params: dict[str, Any] = {"application": name, "counts": _counts(counts), "plan": plan}
    if if_revision is not None:
        params["if_revision"] = if_revision
    ordered = session.change("application.scale", params, request_id=request_id)
    if plan:
        return _planned(session, ordered)
    return _follow(session, ordered, following.scaled, no_wait, timeout, was)


def _counts(words: tuple[str, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        role, equals, number = word.partition("=")
        if not (role and equals and number.isascii() and number.isdigit()) or len(number) > 6:
            raise PlatformError(
                "invalid", f"expected ROLE=N with a number of members, not {word!r}", field="counts"
            )
        if counts.setdefault(role, int(number)) != int(number):
            raise PlatformError("invalid", f"two numbers for the role {role!r}", field="counts")
    return counts


def stop(
    session: Session,
    *,
    name: str,
    no_wait: bool,
    timeout: float,
    request_id: str | None,
    dry_run: bool,
) -> int:
    was = following.before(session, name)
    params = {"application": name, "plan": dry_run}
    ordered = session.change("application.stop", params, request_id=request_id)
    if dry_run:
        return _planned(session, ordered)
    return _follow(session, ordered, following.stopped, no_wait, timeout, was)


def start(
    session: Session, *, name: str, no_wait: bool, timeout: float, request_id: str | None
) -> int:
    was = following.before(session, name)
    ordered = session.change("application.start", {"application": name}, request_id=request_id)
    return _follow(session, ordered, following.running, no_wait, timeout, was)


def destroy(
    session: Session,
    *,
    name: str,
    volumes: bool,
    yes: bool,
    no_wait: bool,
    timeout: float,
    request_id: str | None,
    dry_run: bool,
) -> int:
    started = time.monotonic()
    params = {"application": name, "volumes": volumes}
    if dry_run:
        planned = session.change("application.destroy", {**params, "plan": True})
        return _planned(session, planned)
    found = session.call("application.status", {"application": name})
    files = " and all their files" if volumes else ""
    action = f"This destroys {name} with its {len(found['members'])} components{files}"
    if not session.confirmed(action, name, yes):
        return Exit.FAILED
    ordered = session.change("application.destroy", params, request_id=request_id)
    if no_wait:
        session.output.value(ordered, f"{name} is being destroyed", [name])
        return Exit.DONE
    following.follow(session, ordered, following.gone, timeout, found)
    took = time.monotonic() - started
    value = {"application": name, "state": "destroyed"}
    session.output.value(value, f"{name} destroyed in {took:.1f}s", [name])
    return Exit.DONE


def _planned(session: Session, ordered: dict[str, Any]) -> int:
    names = [step["subject"] for step in ordered["steps"]]
    session.output.value(ordered, app_texts.plan(session.output, ordered), names)
    return Exit.DONE


def _follow(
    session: Session,
    ordered: dict[str, Any],
    goal: following.Goal,
    no_wait: bool,
    timeout: float,
    was: dict[str, Any],
) -> int:
    name, started = ordered["application"], time.monotonic()
    if no_wait:
        text = f"{name} revision {ordered['revision']}: {len(ordered['steps'])} steps to do"
        session.output.value(ordered, text, [name])
        return Exit.DONE
    if not ordered["changed"]:
        session.output.note(f"{name} revision {ordered['revision']}: nothing is different")
    found = following.follow(session, ordered, goal, timeout, was)
    took = time.monotonic() - started
    text = app_texts.summary(session.output, found) + f" in {took:.1f}s"
    session.output.value(app_texts.timed(found), text, [name])
    return Exit.DONE


# -- looking ---------------------------------------------------------------------------------------


def list_(session: Session, *, watch: bool) -> None:
    output = session.output
    columns: tuple[Column, ...] = (
        ("NAME", lambda a: a["name"]),
        ("VERSION", lambda a: a["version"] or "-"),
        ("STATE", lambda a: output.state(a["state"])),
        ("AVAILABLE", lambda a: f"{a['available']}/{a['wanted']}"),
        ("REVISION", lambda a: str(a["revision"])),
        ("SINCE", lambda a: texts.age(time.time() - a["since"])),
        ("TROUBLE", lambda a: a["trouble"] or "-"),
        ("ROLES*", lambda a: str(a["roles"])),
        ("ROUTES*", lambda a: str(a["routes"])),
    )
    watching.show(
        session,
        lambda: session.call("application.list")["applications"],
        lambda items: output.rows(
            "applications",
            [{**a, "since_time": texts.moment(a["since"])} for a in items],
            columns,
        ),
        watch,
    )


def status(session: Session, *, name: str, watch: bool) -> None:
    watching.show(
        session,
        lambda: session.call("application.status", {"application": name}),
        lambda found: session.output.value(
            app_texts.timed(found),
            app_texts.status(session.output, found, time.time()),
            [member["component"] for member in found["members"]],
        ),
        watch,
    )
