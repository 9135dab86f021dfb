"""`paas demo feeds`: the real-time feeds application, on a cluster that runs (io).

Makes a gateway that listens at a port of this machine, deploys examples/feeds/application.toml,
follows some sources for a first reader, waits until the page shows their items, and prints its
address.  A second run changes nothing but what has changed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from paas.base.errors import PlatformError
from paas.cli import app
from paas.cli.session import Session

EXAMPLE = "feeds"
GATEWAY = "gateway"
PORT = 8080
"""Where people look first; another one when it is taken."""

ELSEWHERE = "192.0.2.1"
"""Of TEST-NET-1 (RFC 5737): nobody is there, and nothing is sent to it."""

READER = "you"
SOURCES = (
    "http://live.origin/live/quakes",
    "http://quakes.origin/quakes/california.atom",
    "http://quakes.origin/quakes/alaska.atom",
    "http://quakes.origin/quakes/strong.atom",
    "http://reader-0.origin/feeds/reader/full.atom",
)
ITEMS_MIN = 5
ITEMS_TIMEOUT_S = 60.0
DEPLOY_TIMEOUT_S = 180.0
POLL_S = 0.2

NEXT = """\
try next:
  paas app status feeds                roles, members, routes
  paas app scale feeds fetcher=4       more of a layer, while it works
  paas logs -f feeds-fetcher           what is fetched
  paas top                             what it costs
  paas app destroy feeds --yes         end it; paas down ends everything"""


def demo(session: Session, *, name: str) -> None:
    """Print the address, as one JSON value; all else goes to standard error."""
    if name != EXAMPLE:
        raise PlatformError(
            "invalid", f"there is no demonstration {name!r}", hint=f"there is: {EXAMPLE}"
        )
    file = example_directory() / "application.toml"
    started = time.monotonic()
    port = _step(session, started, "a gateway listens", partial(_gateway, session))
    host = _host(session)
    _step(session, started, "the application runs", partial(_deploy, session, file))
    items = _step(session, started, "items are on the page", partial(_read, host, port))
    address = f"http://{host}:{port}/"
    value = {"address": address, "reader": READER, "items": items}
    session.output.note("")
    session.output.value(value, f"{address}   (say that your name is {READER})", [address])
    session.output.stdout.flush()
    session.output.note("")
    session.output.note(NEXT)


def example_directory() -> Path:
    """Where the example's sources are: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples" / EXAMPLE, package.parent / "examples" / EXAMPLE):
        if folder.is_dir():
            return folder
    raise PlatformError(
        "unsupported",
        f"the sources of examples/{EXAMPLE} are not installed here",
        hint="run it from a checkout of the project",
    )


def _step(session: Session, started: float, text: str, work: Callable[[], Any]) -> Any:
    result = work()
    session.output.note(f"  {time.monotonic() - started:5.1f} s  {text}")
    return result


def _deploy(session: Session, file: Path) -> None:
    """As `paas app deploy`; its status is for people here, so that the address is the result."""
    stdout, session.output.stdout = session.output.stdout, session.output.stderr
    try:
        app.deploy(
            session,
            file=str(file),
            plan=False,
            if_revision=None,
            no_wait=False,
            timeout=DEPLOY_TIMEOUT_S,
            key=None,
            request_id=None,
        )
    finally:
        session.output.stdout = stdout


# -- the gateway -----------------------------------------------------------------------------------


def _gateway(session: Session) -> int:
    """The port of the demonstration's gateway; makes one if there is none."""
    from paas.bundle.keys import load_or_generate
    from paas.cli.bundle import key_file
    from paas.cli.push import build_source, register, upload
    from paas.gateway import client

    found = _published(session)
    if found:
        return found
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="paas-demo-") as folder:
        source = Path(folder) / "gateway"
        client.build(source, version=f"0-{port}", publish=port)
        built = build_source(source, Path(folder))
        upload(session, built, load_or_generate(key_file()))
        kind = register(session, built, None)
    params = {"type": kind, "name": GATEWAY, "restart": "permanent"}
    session.change("controller.create", params, timeout_s=60.0)
    return port


def _published(session: Session) -> int:
    """The port of a gateway of this name that runs already; 0: there is none."""
    try:
        found = session.call("controller.component", {"component": GATEWAY})
    except PlatformError as exc:
        if exc.code != "no-such-target":
            raise
        return 0
    kind = session.call("controller.type", {"type": found["type"]})
    return int(kind["manifest"]["endpoints"]["http"]["publish"])


def _host(session: Session) -> str:
    """The address of the node that the gateway runs on; of one node alone, this machine's own.

    A published port leads from every address of the machine but loopback.
    """
    node = str(session.call("controller.component", {"component": GATEWAY})["node"])
    known = {n["name"]: str(n.get("address", "")) for n in session.call("nodes.list")["nodes"]}
    address = known.get(node, "").partition(":")[0]
    if address and not address.startswith("127."):
        return address
    return own_address()


def own_address() -> str:
    """An address of this machine: the one that it would use towards others, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.connect((ELSEWHERE, 9))  # nothing is sent
        return str(sock.getsockname()[0])
    for addresses in psutil.net_if_addrs().values():
        for found in addresses:
            if found.family == socket.AF_INET and not found.address.startswith("127."):
                return str(found.address)
    raise PlatformError("unsupported", "this machine has no address but loopback")


def free_port() -> int:
    """A port of this machine that nobody listens at: PORT if possible."""
    for wanted in (PORT, 0):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("0.0.0.0", wanted))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise PlatformError("conflict", "no port of this machine is free")


# -- the first reader ------------------------------------------------------------------------------


def _read(host: str, port: int) -> int:
    """Follow SOURCES as READER does on the page, and wait for items; how many there are."""
    until = time.monotonic() + ITEMS_TIMEOUT_S
    followed = False
    while True:
        try:
            followed = followed or _follow(host, port)
            items = _ask(host, port, "GET", "/api/timeline")["items"]
            if len(items) >= ITEMS_MIN:
                return len(items)
            error = PlatformError(
                "timeout", "no feed has been read yet", hint="see: paas logs feeds-fetcher"
            )
        except (OSError, http.client.HTTPException, ValueError) as exc:
            error = PlatformError("timeout", f"the page does not answer: {exc}")
        if time.monotonic() > until:
            raise error
        time.sleep(POLL_S)


def _follow(host: str, port: int) -> bool:
    for url in SOURCES:
        _ask(host, port, "POST", "/api/sources", {"url": url})
    return True


def _ask(host: str, port: int, method: str, path: str, body: Any = None) -> Any:
    """One request to the page's JSON interface; ValueError for any answer but success."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        headers = {"cookie": f"feeds_user={READER}", "content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise ValueError(f"{method} {path}: {answer.status} {text[:200].decode()}")
        return json.loads(text)
    finally:
        connection.close()
