"""Who may import whom (architecture §3).

L4  cli web sdk          people
L3  hub controller …     sub-systems: of each other only client.py and messages.py
L2  rpc raft telemetry bundle
L1  wire identity
L0  base
beside: real (ports on a machine; may use what is below L2), assembly (puts processes together,
may import everything), sim and testing (the same), imported by nobody but their own entry points.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

LAYERS: dict[str, int] = {
    "base": 0,
    **dict.fromkeys(("wire", "identity"), 1),
    **dict.fromkeys(("rpc", "raft", "telemetry", "bundle", "oci"), 2),
    **dict.fromkeys(("hub", "controller", "scheduler", "scaler", "harness", "container"), 3),
    **dict.fromkeys(("node", "credentials", "certificates", "dns", "application", "gateway"), 3),
    **dict.fromkeys(("logs", "monitor", "layers", "billing", "reservations", "blob", "volume"), 3),
    **dict.fromkeys(("network", "fetcher"), 3),
    **dict.fromkeys(("entry",), 3),
    **dict.fromkeys(("cli", "web", "sdk"), 4),
}
BESIDE = {"real", "assembly", "sim", "testing"}
PUBLIC = {"client", "messages"}

# (importing file, imported module): reason.  Every entry is a debt or a design, and says which.
ALLOWED: dict[tuple[str, str], str] = {
    ("paas/container/launch.py", "paas.harness.settings"): "the launched process is the harness",
    ("paas/bundle/state.py", "paas.raft.command.command"): "a section of the replicated state",
    ("paas/cli/supervisor.py", "paas.node.settings.runtime_of"): "both must agree on the places",
    ("paas/cli/supervisor.py", "paas.node.settings.short_name"): "both must agree on the places",
    ("paas/cli/sdk_files.py", "paas.sdk.joined"): "what `paas push` puts into bundles",
    ("paas/real/kernel_bases.py", "paas.container.plan.Base"): "a plan's result is carried out",
}

# Who may see the real ports: entry points, and what puts processes together.
# The template and what it forks (harnesses) are processes of their own, into which no port can be
# handed; the container controller's shells are the kernel's face, and what decides there is pure.
REAL_USERS = (
    *("paas/__main__.py", "paas/assembly/", "paas/real/", "paas/sim/", "paas/testing/"),
    *("paas/cli/dev.py", "paas/cli/supervisor.py", "paas/cli/machines.py"),
    *("paas/harness/main.py", "paas/harness/child.py"),
    "paas/container/backends/",
    *("paas/container/template.py", "paas/container/launch.py", "paas/container/launcher.py"),
    *("paas/container/engine.py", "paas/container/machine.py", "paas/container/parts.py"),
    *("paas/container/pools.py", "paas/container/probe.py", "paas/container/living.py"),
    "paas/container/filesystems/",
    *("paas/container/tree.py", "paas/container/walls.py"),
    *("paas/container/between.py", "paas/container/gate.py"),
    *("paas/container/entrance.py", "paas/container/entering.py", "paas/container/inside.py"),
    *("paas/container/volumes.py", "paas/container/volume_mounts.py"),
)

ONLY_THERE = {
    # third-party module: (where it may be imported, what to use elsewhere)
    "pysyncobj": (("paas/raft/",), "paas.raft.log"),
    "pyroute2": (("paas/real/",), "the kernel port"),
    "h11": (
        ("paas/rpc/http_server.py", "paas/fetcher/http1.py", "paas/gateway/", "paas/testing/"),
        "rpc.http_server, or fetcher.client",
    ),
    "h2": (("paas/gateway/http2/",), "gateway.http2"),
    "hyperframe": (("paas/gateway/http2/",), "gateway.http2"),
    "wsproto": (
        ("paas/rpc/", "paas/cli/remote.py", "paas/gateway/websocket/", "paas/testing/"),
        "rpc.websocket",
    ),
    "msgpack": (("paas/wire/",), "paas.wire.codec"),
    "cryptography.x509": (("paas/identity/",), "paas.identity"),
    "ssl": (
        ("paas/identity/tls.py", "/transport.py", "/tls_link.py", "/server.py", "/client.py"),
        "identity.tls",
    ),
}


def layer_findings(module: Any) -> list[str]:
    """What this file imports of ours and should not."""
    found = []
    for imported in module.imports:
        if imported.module.split(".")[0] != "paas":
            continue
        # `from paas.hub import client` names the module in the second half.
        whole = f"{imported.module}.{imported.name}" if imported.name else imported.module
        parts = whole.split(".")
        package = parts[1] if len(parts) > 1 else ""
        reason = layer_reason(module, package, parts[2] if len(parts) > 2 else "")
        allowed = any((module.path, name) in ALLOWED for name in (imported.module, whole))
        if reason and not allowed:
            found.append(f"{module.path}:{imported.line}: imports {whole}: {reason}")
    return found


def layer_reason(module: Any, package: str, part: str) -> str:
    """Why a file may not import `part` of `package`; empty when it may."""
    mine = module.package
    if package in (mine, "", "__version__") or mine in ("assembly", "sim", "testing"):
        return ""
    # The generator of the reference documentation reads every table that there is.
    entry = module.path.endswith("__main__.py") or module.path == "paas/cli/reference.py"
    if package == "real":
        seen = entry or module.path.startswith(REAL_USERS)
        return "" if seen else "real ports are handed in, only entry points make them"
    if package == "assembly":
        return "" if module.path == "paas/__main__.py" else "only paas/__main__.py assembles"
    if package in BESIDE:
        return "" if entry else "nobody imports the simulated world or the fakes"
    if mine == "real":
        return "" if LAYERS.get(package, 9) < 2 else "ports know only what is below them"
    if mine not in LAYERS:
        return "" if entry or not mine else f"{mine} has no layer: add it to the table"
    if package not in LAYERS:
        return f"{package} has no layer: add it to the table"
    if entry:
        return ""
    upper, lower = LAYERS[mine], LAYERS[package]
    if lower == 3 and upper >= 3:
        return "" if part in PUBLIC else "of a sub-system only client.py and messages.py"
    if lower < upper:
        return ""
    return "sideways" if lower == upper else "upwards"


def only_there_findings(module: Any) -> list[str]:
    found = []
    for imported in module.imports:
        whole = f"{imported.module}.{imported.name}" if imported.name else imported.module
        for name, (places, cure) in ONLY_THERE.items():
            if whole != name and not whole.startswith(name + "."):
                continue
            if not any(module.path.startswith(p) or module.path.endswith(p) for p in places):
                found.append(f"{module.path}:{imported.line}: {name}: use {cure}")
    return found


def test_packages_import_only_what_is_below_them(modules: list[Any]) -> None:
    found = [text for module in modules for text in layer_findings(module)]
    assert not found, "\n" + "\n".join(found)


def test_every_package_has_a_layer(modules: list[Any]) -> None:
    packages = {module.package for module in modules} - {""}
    assert packages <= set(LAYERS) | BESIDE


def test_some_libraries_are_known_to_one_place_only(modules: list[Any]) -> None:
    found = [text for module in modules for text in only_there_findings(module)]
    assert not found, "\n" + "\n".join(found)


def test_the_sdk_needs_the_standard_library_only(modules: list[Any]) -> None:
    found = [
        f"{module.path}:{imported.line}: {imported.module}"
        for module in modules
        if module.package == "sdk"
        for imported in module.imports
        if imported.module.split(".")[0] not in sys.stdlib_module_names
        and not imported.module.startswith("paas.sdk.")  # its chapters, joined for bundles
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_exception_is_still_needed(modules: list[Any]) -> None:
    used = {
        (module.path, name)
        for module in modules
        for i in module.imports
        for name in (i.module, f"{i.module}.{i.name}")
    }
    assert not set(ALLOWED) - used


@pytest.mark.parametrize(
    ("path", "text", "finding"),
    [
        ("paas/base/x.py", "import paas.wire.codec", "upwards"),
        ("paas/wire/x.py", "from paas.identity import names", "sideways"),
        ("paas/hub/x.py", "from paas.controller.state import State", "only client.py"),
        ("paas/hub/x.py", "from ..controller import state", "only client.py"),
        ("paas/cli/x.py", "from paas.hub.router import Router", "only client.py"),
        ("paas/hub/x.py", "from paas.real.clock import SystemClock", "handed in"),
        ("paas/hub/x.py", "from paas.testing import faults", "nobody imports"),
        ("paas/hub/x.py", "from paas.assembly import node", "assembles"),
        ("paas/new/x.py", "from paas.base import ids", "no layer"),
        ("paas/real/x.py", "from paas.rpc import link", "ports know only"),
    ],
)
def test_a_wrong_import_is_found(source: Any, path: str, text: str, finding: str) -> None:
    (found,) = layer_findings(source(path, text))
    assert finding in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("paas/hub/x.py", "from paas.controller import messages, client"),
        ("paas/hub/x.py", "from paas.controller.client import Controller"),
        ("paas/hub/x.py", "from paas.hub.router import Router"),
        ("paas/hub/x.py", "from paas.base import ids\nfrom . import router"),
        ("paas/cli/x.py", "from paas import __version__\nfrom paas.rpc import peer"),
        ("paas/__main__.py", "from paas.real.clock import SystemClock"),
        ("paas/sim/x.py", "from paas.hub.router import Router"),
    ],
)
def test_a_right_import_is_not_found(source: Any, path: str, text: str) -> None:
    assert layer_findings(source(path, text)) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("paas/hub/x.py", "import pysyncobj"),
        ("paas/node/x.py", "from pyroute2 import IPRoute"),
        ("paas/hub/x.py", "import msgpack"),
        ("paas/hub/x.py", "from cryptography import x509"),
        ("paas/hub/x.py", "import ssl"),
    ],
)
def test_a_library_out_of_its_place_is_found(source: Any, path: str, text: str) -> None:
    assert len(only_there_findings(source(path, text))) == 1
