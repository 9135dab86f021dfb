"""Which files of this version's SDK a bundle gets, by the `sdk` of its manifest (io)."""

from __future__ import annotations

from pathlib import Path

from paas.sdk.joined import source

FOLDER = Path(__file__).resolve().parents[1] / "sdk"
PYTHON = "paas_component.py"
NODE = "paas-component.mjs"
TESTING = "paas_testing.py"


def sdk_files(sdk: str) -> dict[str, str]:
    """Name in the bundle to text; nothing for programs that bring their own."""
    if sdk == "python":
        return {PYTHON: source()}
    if sdk == "node":
        return {NODE: (FOLDER / "node" / NODE).read_text(encoding="utf-8")}
    return {}


def testing_file() -> str:
    """The harness for developers' tests, beside which no platform is needed."""
    return (FOLDER / TESTING).read_text(encoding="utf-8")
