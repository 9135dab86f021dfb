"""The escape battery: every attempt ends as the table says.

Source: reliability plan, container escape battery; probes.txt is the data.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.escape import battery

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends]


@pytest.mark.parametrize("user", battery.USERS)
async def test_every_attempt_ends_as_the_table_says(
    node: Any, facts: dict[str, Any], user: str
) -> None:
    names = [probe.name for probe in battery.PROBES]
    found = await battery.inside(node, names, facts, configuration=battery.CONFIGURATIONS[user])
    other = {
        probe.name: f"{found[probe.name]} instead of {'|'.join(sorted(probe.expected[user]))}"
        for probe in battery.PROBES
        if found[probe.name] not in probe.expected[user]
    }
    assert other == {}


async def test_a_canary_of_the_host_and_of_a_neighbour_stays_unread(
    node: Any, facts: dict[str, Any]
) -> None:
    source = """
import json, os
found = []
for folder, _, files in os.walk("/", onerror=None):
    if folder.startswith(("/proc/self/task", "/usr")):
        continue
    found += [os.path.join(folder, f) for f in files if f.startswith("canary-of-")]
print(json.dumps(found))
"""
    assert facts["canary"].endswith("canary-of-the-host")
    assert await node.python(source) == []


async def test_the_hosts_files_of_a_bundle_keep_their_names_and_bits(
    node: Any, facts: dict[str, Any]
) -> None:
    """Hard links and changes of mode are made in the container's layer, or not at all."""
    before = [(p.name, p.stat()) for p in sorted(node.bundle.iterdir())]
    source = """
import json, os
for name in os.listdir("/app"):
    for attempt in (
        lambda: os.link("/app/" + name, "/app/another-" + name),
        lambda: os.chmod("/app/" + name, 0o7777),
        lambda: os.truncate("/app/" + name, 0),
        lambda: os.unlink("/app/" + name),
    ):
        try:
            attempt()
        except OSError:
            pass
print(json.dumps("done"))
"""
    for configuration in (None, {"root": True, "without_rules": True}):
        assert await node.python(source, configuration=configuration) == "done"
    after = [(p.name, p.stat()) for p in sorted(node.bundle.iterdir())]
    assert [_facts(n, s) for n, s in before] == [_facts(n, s) for n, s in after]


def _facts(name: str, status: Any) -> tuple[Any, ...]:
    return (name, status.st_mode, status.st_nlink, status.st_uid, status.st_size, status.st_mtime)
