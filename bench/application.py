"""How long an application takes: 20 components from nothing, to another version, to nothing.

The same by `application.deploy` over the API; what waits for whom (an order of birth with two
roles) is part of it.  Between the same moments the bare component controller is measured: 20
components by one `controller.create`.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from bench.cluster import Client, Cluster
from bench.figures import Figure, spread
from bench.native import Native

COMPONENTS = 20
STORES = 4
NAME = "shop"
PATIENCE_S = 120.0


def application(quick: bool) -> list[Figure]:
    """Deploy, replace, destroy, in turns with a plain create."""
    deployed: list[float] = []
    replaced: list[float] = []
    destroyed: list[float] = []
    plain: list[float] = []
    repeated: list[float] = []
    with Cluster() as cluster, cluster.client() as client:
        native = Native(cluster)
        kind = cluster.push(native.source)
        for _ in range(1 if quick else 5):
            plain.append(_plain(client, kind))
            deployed.append(_change(client, "deploy", specification=_specification(kind, 1)))
            repeated.append(_change(client, "deploy", specification=_specification(kind, 1)))
            replaced.append(_change(client, "deploy", specification=_specification(kind, 2)))
            destroyed.append(_destroy(client))
    ratio = statistics.median(deployed) / statistics.median(plain)
    return [
        Figure(
            what=f"deploy of {COMPONENTS} components in two roles → available",
            value=statistics.median(deployed),
            unit="s",
            peer=statistics.median(plain),
            peer_name=f"one `create --count {COMPONENTS}`",
            note=f"{native.note}; {STORES} of them before the others; {ratio:.1f} × a plain create",
            samples=spread(deployed),
        ),
        Figure(
            what=f"{COMPONENTS} components replaced one at a time",
            value=statistics.median(replaced),
            unit="s",
            note=f"{statistics.median(replaced) / COMPONENTS * 1e3:.0f} ms each",
            samples=spread(replaced),
        ),
        Figure(
            what="the same deploy again",
            value=statistics.median(repeated) * 1e3,
            unit="ms",
            samples=spread([s * 1e3 for s in repeated]),
        ),
        Figure(
            what=f"destroy of {COMPONENTS} components → nothing left",
            value=statistics.median(destroyed),
            unit="s",
            samples=spread(destroyed),
        ),
    ]


def _specification(kind: str, turn: int) -> dict[str, Any]:
    """Another `turn` is another configuration: every member is replaced."""
    common = {"type": kind, "configuration": {"turn": turn}, "grace": 2}
    return {
        "application": {"name": NAME},
        "roles": {
            "web": {**common, "count": COMPONENTS - STORES, "depends": ["store"]},
            "store": {**common, "count": STORES},
        },
    }


def _plain(client: Client, kind: str) -> float:
    """Seconds for as many components at once, which are destroyed again."""
    since = time.perf_counter()
    made = client.call("controller.create", type=kind, count=COMPONENTS)["components"]
    took = time.perf_counter() - since
    for component in made:
        client.call("controller.destroy", component=component, grace=2.0)
    return took


def _change(client: Client, what: str, **params: Any) -> float:
    """Seconds until the application is available."""
    since = time.perf_counter()
    client.call(f"application.{what}", **params)
    index = 0
    while True:
        found = client.call("application.status", application=NAME, index=index, wait=10.0)
        if found["state"] == "available":
            return time.perf_counter() - since
        if time.perf_counter() - since > PATIENCE_S:
            raise AssertionError(f"not available: {found['state']}, {found['steps'][:3]}")
        index = found["index"]


def _destroy(client: Client) -> float:
    """Seconds until nothing is known of it."""
    since = time.perf_counter()
    client.call("application.destroy", application=NAME)
    while client.call("application.list")["applications"]:
        if time.perf_counter() - since > PATIENCE_S:
            raise AssertionError("it is not destroyed")
        time.sleep(0.01)
    return time.perf_counter() - since
