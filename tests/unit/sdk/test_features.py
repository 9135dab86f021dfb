"""The table of features in the documentation is what the SDKs have, and all that they have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from paas.sdk import paas_component as sdk

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "internals" / "hub" / "sdk.md"
NODE = [path for path in [shutil.which("node")] if path]
LIST = """
import(process.argv[1]).then(({ Component }) => {
  console.log(Object.getOwnPropertyNames(Component.prototype).join("\\n"));
});
"""


def column(number: int) -> set[str]:
    """The names in a column of the table, without those of other things (`call.cancelled`)."""
    table = PAGE.read_text().split("| what | threads |")[1].split("\n\n")[0]
    cells = [line.split("|")[number + 1] for line in table.splitlines()[2:]]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_threads_have_what_the_table_says() -> None:
    assert public(sdk.Component) == column(1)


@pytest.mark.parametrize("kind", ["AsyncComponent", "TrioComponent"])
def test_tasks_have_what_the_table_says(kind: str) -> None:
    assert public(getattr(sdk, kind)) - {"connect"} == column(2)


@pytest.mark.parametrize("node", NODE)
def test_node_has_what_the_table_says(node: str) -> None:
    file = ROOT / "paas" / "sdk" / "node" / "paas-component.mjs"
    done = subprocess.run(
        [node, "-e", LIST, file.as_uri()], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) - {"constructor"} == column(3)
