"""`paas init`: a new component, with the reason of each value (io)."""

from __future__ import annotations

import re
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.cli.session import Session

_PYTHON = '''"""A component.  Try it: paas push, paas create {name}, paas call {name} greet."""

from paas_component import Component

component = Component()


@component.operation("greet")
def greet(inputs, call):
    return {{"text": f"Hello, {{inputs.get('name', 'world')}}!"}}


component.run()
'''

_SHELL = """#!/bin/sh
# A component that knows nothing of the platform: what it prints becomes log records.
while true; do
    echo "{name} is alive"
    sleep 10
done
"""

_MANIFEST = """[component]
name = "{name}"
version = "0.1.0"
command = {command}
protocol = "{protocol}"
{sdk}
[limits]
memory = "64M"
cpu = 0.5
"""

TEMPLATES = {
    "python": ("main.py", _PYTHON, '["python3", "main.py"]', "json", 'sdk = "python"\n'),
    "shell": ("main.sh", _SHELL, '["sh", "main.sh"]', "none", ""),
}


def init(
    session: Session, *, template: str | None, name: str | None, directory: str, dry_run: bool
) -> int:
    kind, why_kind = (template, "asked for") if template else ("python", "the default")
    if kind not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise PlatformError("invalid", f"template: expected one of {known}, not {kind!r}")
    folder = Path(directory).resolve()
    chosen, why_name = (
        (name, "asked for") if name else (_name(folder.name), "from the directory's name")
    )
    if not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", chosen):
        raise PlatformError(
            "invalid", f"--name: lower-case letters, digits, hyphens, not {chosen!r}"
        )
    program, source, command, protocol, sdk = TEMPLATES[kind]
    files = {
        "component.toml": _MANIFEST.format(
            name=chosen, command=command, protocol=protocol, sdk=sdk
        ),
        program: source.format(name=chosen),
    }
    there = [file for file in files if (folder / file).exists()]
    if there:
        raise PlatformError(
            "conflict",
            f"{folder / there[0]} exists already",
            hint="choose another: --directory DIR",
        )
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    output = session.output
    verb = "would create" if dry_run else "created"
    output.note(f"name {chosen} ({why_name}), template {kind} ({why_kind})")
    output.note(f"next: paas push {directory}; paas create {chosen}")
    value = {"name": chosen, "template": kind, "files": list(files), "directory": str(folder)}
    output.value(value, f"{verb} {' '.join(files)}", list(files))
    return Exit.DONE


def _name(text: str) -> str:
    """A directory's name as a type's name, as far as it goes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-0123456789") or "component"
