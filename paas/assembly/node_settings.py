"""What a node is called and where it keeps things, from its state directory."""

from __future__ import annotations

import json
import os

from paas.base.errors import PlatformError
from paas.node.settings import NodeSettings, short_name


def settings_of(state: str) -> NodeSettings:
    """The settings of the node whose state directory this is; raises `corrupt`."""
    state = os.path.realpath(state)
    cluster = f"dev-{short_name(state)}"
    try:
        with open(f"{state}/cluster.json", encoding="utf-8") as file:
            cluster = str(json.load(file).get("name", cluster))
    except FileNotFoundError:
        pass
    except (ValueError, AttributeError):
        raise PlatformError("corrupt", f"{state}/cluster.json is not a JSON object") from None
    return NodeSettings(state=state, cluster=cluster)
