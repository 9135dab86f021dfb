"""What the harness is handed works for a harness with an event loop."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

import pytest
import trio
from msgspec.structs import replace

pytestmark = pytest.mark.system


async def test_an_event_loop_reaches_the_hub_as_the_containers_user(fresh_node: Any) -> None:
    fresh_node.settings = replace(fresh_node.settings, harness="trio_init:main")
    server = trio.socket.socket(socket.AF_UNIX)
    await server.bind(str(fresh_node.hub / "harness.sock"))
    os.chmod(fresh_node.hub / "harness.sock", 0o666)
    server.listen()
    async with fresh_node.running():
        started = await fresh_node.start("true", configuration={"a": [1, None]}, incarnation=7)
        with trio.fail_after(20):
            connection, _ = await server.accept()
            data = b""
            while chunk := await connection.recv(10_000):
                data += chunk
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        exited = await fresh_node.wait_exit(started.component)
    seen = json.loads(data)
    assert seen["pid"] == 1
    assert seen["uid"] == 0
    assert seen["incarnation"] == exited.incarnation == 7
    assert seen["configuration"] == {"a": [1, None]}
    assert (seen["child"], seen["thread"]) == ("child", True)
    assert struct.unpack("=iII", peer) == (started.pid, started.uid_base, started.uid_base)
    assert exited.reason == "normal"
    connection.close()
    server.close()


async def test_every_common_runtime_works_under_the_filter(node: Any) -> None:
    """The interpreters that the base has: none of them may need a refused system call."""
    programs = {
        "/bin/sh": "echo fine",
        "/usr/bin/bash": "echo fine",
        "/usr/bin/perl": 'print "fine\n"',
        "/usr/bin/python3": "import threading, asyncio, multiprocessing as m, subprocess\n"
        "p = m.Process(target=print, args=('fine',)); p.start(); p.join()",
        "/usr/bin/node": "new Promise(r => setTimeout(r, 10)).then(() => console.log('fine'))",
        "/usr/bin/ruby": 'puts "fine"',
    }
    flags = {"/usr/bin/perl": "-e", "/usr/bin/node": "-e", "/usr/bin/ruby": "-e"}
    for program, source in programs.items():
        if os.path.exists(program):
            limits = node.spec("x").limits
            wide = replace(limits, memory_bytes=512 << 20)
            exited = await node.run(program, flags.get(program, "-c"), source, limits=wide)
            assert (exited.reason, exited.harness_log) == ("normal", "fine\n"), program
