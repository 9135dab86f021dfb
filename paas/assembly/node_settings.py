"""What a node is called and where it keeps things, from its state directory.

`node.json` is written once, when the node begins a cluster or has joined one:
    {"cluster", "node", "listen": "host:port", "join": "host:port", "peers": {name: "host:port"},
     "kind": "init" | "join", "containers": network or "",
     "api": "host:port" (port 0: any) | "off" | "", "trace_rate": 0.0,
     "backend": "namespaces" | "lxc", "filesystem": "auto" | "overlay" | "btrfs" | "binds",
     "ipv6": "off" | "auto", "dns": {…} (paas.dns.settings)}
A directory without it is that of a cluster of one node without a network.
"""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Network
from typing import Any

from paas.base.errors import PlatformError
from paas.container.messages import BACK_ENDS, FILE_SYSTEMS, IPV6
from paas.dns import settings as dns_settings
from paas.identity.names import check_cluster, check_node
from paas.node.settings import NODE_NAME, NodeSettings, short_name

NODE_FILE = "node.json"
KINDS = ("init", "join")


def settings_of(state: str) -> NodeSettings:
    """The settings of the node whose state directory this is; raises `corrupt`."""
    state = os.path.realpath(state)
    facts = _object(f"{state}/cluster.json")
    cluster = str(facts.get("name", f"dev-{short_name(state)}"))
    path = f"{state}/{NODE_FILE}"
    if not os.path.exists(path):
        return NodeSettings(state=state, cluster=cluster)
    return node_settings(state, cluster, _object(path))


def node_settings(state: str, cluster: str, plain: dict[str, Any]) -> NodeSettings:
    """The settings that a node.json states; raises `corrupt` naming the field that is wrong."""
    try:
        settings = NodeSettings(
            state=state,
            cluster=str(plain.get("cluster", cluster)),
            node=str(plain.get("node", NODE_NAME)),
            listen=_address(plain, "listen"),
            join_listen=_address(plain, "join"),
            peers={str(k): _checked("peers", v) for k, v in plain.get("peers", {}).items()},
            joined=KINDS.index(plain.get("kind", "init")) == 1,
            container_network=_network(plain.get("containers", "")),
            api_listen=_api(plain.get("api", "")),
            trace_rate=_rate(plain.get("trace_rate", 0.0)),
            backend=_backend(plain.get("backend", BACK_ENDS[0])),
            filesystem=_filesystem(plain.get("filesystem", FILE_SYSTEMS[0])),
            ipv6=_ipv6(plain.get("ipv6", IPV6[0])),
            dns=_dns(plain.get("dns", {})),
        )
        check_cluster(settings.cluster)
        check_node(settings.node)
    except (PlatformError, ValueError, AttributeError, TypeError) as exc:
        raise PlatformError("corrupt", f"{state}/{NODE_FILE}: {exc}") from None
    return settings


def _address(plain: dict[str, Any], name: str) -> str:
    value = plain.get(name, "")
    return _checked(name, value) if value else ""


def _checked(name: str, value: object) -> str:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not (host and colon and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"{name}: expected host:port, not {value!r}")
    return f"{host}:{port}"


def _api(value: object) -> str:
    if value in ("", "off"):
        return str(value)
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not (host and colon and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"api: expected host:port or off, not {value!r}")
    return f"{host}:{port}"


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"trace_rate: expected a number from 0 to 1, not {value!r}")
    return float(value)


def _backend(value: object) -> str:
    if value not in BACK_ENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACK_ENDS)}, not {value!r}")
    return str(value)


def _filesystem(value: object) -> str:
    if value not in FILE_SYSTEMS:
        raise ValueError(f"filesystem: expected one of {', '.join(FILE_SYSTEMS)}, not {value!r}")
    return str(value)


def _ipv6(value: object) -> str:
    if value not in IPV6:
        raise ValueError(f"ipv6: expected one of {', '.join(IPV6)}, not {value!r}")
    return str(value)


def _dns(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"dns: expected an object, not {value!r}")
    dns_settings.read(value)
    return value


def _network(value: object) -> str:
    return str(IPv4Network(str(value))) if value else ""


def _object(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise PlatformError("corrupt", f"{path} is not a JSON object")
    return value
