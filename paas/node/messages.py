"""Messages between the node controller and the agents that it starts.  Numbers 500-549.

They travel in compact form over a socket pair that the agent inherits; its end is the end of the
agent: an agent whose node controller is gone leaves at once, and is started anew by the next one.
"""

from __future__ import annotations

from typing import Any

from paas.wire.registry import Message, Nothing, Params, method


class Start(Params, frozen=True, kw_only=True):
    """Begin to work.  Answered when the agent is ready.

    `token` is traded for a certificate at `authority_socket`; `uid` and `gid` are taken on before
    anything else is done; `directories` are opened before that.
    """

    cluster: str
    node: str
    agent: str
    uid: int
    gid: int
    directories: dict[str, str]
    runtime: str
    token: str = ""
    authority_socket: str = ""
    settings: dict[str, Any] = {}


class Started(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The agent is ready."""

    pid: int
    facts: dict[str, Any]


class Ping(Params, frozen=True, kw_only=True):
    """Are you alive?"""


class Health(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The agent's own figures."""

    statistics: dict[str, Any]


class Stop(Params, frozen=True, kw_only=True):
    """End.  With `teardown`, also what outlives the agent: containers, links, mounts."""

    teardown: bool = False


START = method(500, "agent.start", Start, Started, public=False)
PING = method(501, "agent.ping", Ping, Health, public=False)
STOP = method(502, "agent.stop", Stop, Nothing, public=False)
