"""Going into containers, between the hub and the container controller of a node (566-569).

Each opens a byte stream (paas.rpc.stream_messages) on the connection of the request.
"""

from __future__ import annotations

from paas.rpc.stream_messages import Opened, Opening
from paas.wire.registry import Nothing, Params, method


class ExecInContainer(Opening, frozen=True, kw_only=True):
    """Run a command in a running container.

    The stream carries its standard input; its output and errors come on the channels 1 and 2 (on a
    terminal: all on 1), and the end says `{"code": int}`, `{"signal": str, "number": int}` or, when
    it could not be run, `{"code": int, "error": str}`.  Breaking the stream off kills the command.
    """

    component: str
    command: list[str]
    environment: dict[str, str] = {}
    cwd: str = ""
    terminal: bool = False
    rows: int = 24
    columns: int = 80
    root: bool = False


class ConnectInContainer(Opening, frozen=True, kw_only=True):
    """Connect to an endpoint, or a TCP port, from inside a container's network."""

    component: str
    endpoint: str = ""
    port: int = 0


class CopyInContainer(Opening, frozen=True, kw_only=True):
    """Read the tree at a path as a tar stream, or write one there.

    The end says `{"files", "bytes", "skipped", "named"}`.
    """

    component: str
    path: str
    write: bool = False
    name: str = ""
    root: bool = False


class ResizeTerminal(Params, frozen=True, kw_only=True):
    """Of the command whose stream has this number: the size of its terminal, or a signal to it."""

    stream: int
    rows: int = 0
    columns: int = 0
    signal: str = ""


EXEC = method(566, "container.exec", ExecInContainer, Opened, public=False)
CONNECT = method(567, "container.connect", ConnectInContainer, Opened, public=False)
FILES = method(568, "container.files", CopyInContainer, Opened, public=False)
RESIZE_TERMINAL = method(569, "container.resize_terminal", ResizeTerminal, Nothing, public=False)
