"""People's ways into components that run: commands, connections, files (numbers 422-425).

Each opens a byte stream on the connection of its request (`stream.data`, `.credit`, `.end`,
`.reset`).  For operators.
"""

from __future__ import annotations

from paas.rpc.stream_messages import Opened, Opening
from paas.wire.registry import Nothing, Params, method


class Exec(Opening, frozen=True, kw_only=True):
    """Run a command beside a component, in its container and with its user, bounds and walls.

    The stream carries standard input.  Output and errors come on the channels 1 and 2; with
    `terminal`, both on 1.  The end says `{"code": int}`, `{"signal": str, "number": int}` or, when
    it could not be run, `{"code": int, "error": str}`.  Breaking the stream off kills the command.
    `environment` is added to the component's; `root` is user 0 inside, without capabilities.
    """

    component: str
    command: list[str]
    environment: dict[str, str] = {}
    cwd: str = ""
    terminal: bool = False
    rows: int = 24
    columns: int = 80
    root: bool = False


class Connect(Opening, frozen=True, kw_only=True):
    """Connect to an endpoint of a component, or to a TCP port of its, from inside its network."""

    component: str
    endpoint: str = ""
    port: int = 0


class Files(Opening, frozen=True, kw_only=True):
    """Copy files out of a component, or (`write`) into it, as a tar stream.

    Read: the tree at `path`, its top called as the path ends.  Written: into the directory `path`
    under `name`, or, if there is none, as `path`.  The end says `{"files", "bytes", "skipped",
    "named"}`.  It is the component's user, or user 0 inside, who reads and writes.
    """

    component: str
    path: str
    write: bool = False
    name: str = ""
    root: bool = False


class Terminal(Params, frozen=True, kw_only=True):
    """Of the command whose stream has this number: its terminal has another size, or a signal."""

    stream: int
    rows: int = 0
    columns: int = 0
    signal: str = ""


EXEC = method(422, "controller.exec", Exec, Opened)
CONNECT = method(423, "controller.connect", Connect, Opened)
FILES = method(424, "controller.files", Files, Opened)
TERMINAL = method(425, "controller.terminal", Terminal, Nothing)
