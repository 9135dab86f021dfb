"""A member of a route's group: the same small site by an endpoint and by an operation.

/who            its identifier        /count          how often /once was asked of it
/slow?0.5       the same, later       /once           counted
/die            it ends at once, by the signal KILL, without an answer
/echo           the body              /events         three pieces, then the end
/ws             a WebSocket that says everything back (RFC 6455); to `who`, its name
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import statistics
import struct
import time

from paas_component import AsyncComponent, Result

ME = os.environ["PAAS_COMPONENT_ID"]
component = AsyncComponent(codec="auto")
count = 0
sockets: dict[str, str] = {}


async def answer(method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
    global count
    if path == "/slow":
        await asyncio.sleep(float(query))
    elif path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif path == "/once":
        count += 1
    elif path == "/count":
        return 200, str(count).encode()
    elif path == "/echo":
        return 200, body
    elif path != "/who":
        return 404, b"nothing here"
    return 200, ME.encode()


# -- the operation ---------------------------------------------------------------------------------


@component.operation("http")
async def http(inputs, call):
    if inputs["path"] == "/events":
        asyncio.get_running_loop().create_task(events(call.sender, inputs["connection"]))
        return {"status": 200, "headers": [["content-type", "text/event-stream"]], "stream": True}
    body = b"".join([a["data"] for a in call.attachments if a["name"] == "body"])
    status, said = await answer(inputs["method"], inputs["path"], inputs["query"], body)
    attachment = {"name": "body", "type": "text/plain", "data": said}
    headers = [["content-type", "text/plain"], ["x-member", ME]]
    return Result({"status": status, "headers": headers}, [attachment])


async def events(gateway, connection):
    for number in range(3):
        piece = f"data: {number} from {ME}\n\n"
        await component.call(
            gateway, "gateway.send", {"connection": connection, "kind": "body", "text": piece}
        )
    await component.call(gateway, "gateway.send", {"connection": connection, "kind": "end"})


@component.operation("http.open")
async def opened(inputs, call):
    sockets[inputs["connection"]] = call.sender
    return {"status": 101}


@component.operation("http.message")
async def message(inputs, call):
    text = ME if inputs["text"] == "who" else inputs["text"]
    said = {"connection": inputs["connection"], "kind": inputs["kind"], "text": text}
    await component.call(call.sender, "gateway.send", said, attachments=list(call.attachments))


@component.operation("http.close")
async def closed(inputs, call):
    sockets.pop(inputs["connection"], None)


@component.operation("open_sockets")
async def open_sockets(inputs, call):
    return {"count": len(sockets)}


@component.operation("measure")
async def measure(inputs, call):
    """How long calls of a member take, one after the other; milliseconds."""
    request = {"method": "GET", "path": "/who", "query": "", "headers": [], "connection": ""}
    took = []
    for _ in range(inputs["count"]):
        began = time.perf_counter()
        await component.call(inputs["target"], "http", request)
        took.append((time.perf_counter() - began) * 1e3)
    return {"p50_ms": statistics.median(took)}


@component.operation("push")
async def push(inputs, call):
    """Say something to every open socket of this member, from here."""
    for connection, gateway in list(sockets.items()):
        said = {"connection": connection, "kind": "text", "text": inputs["text"]}
        await component.call(gateway, "gateway.send", said)


# -- the endpoint ----------------------------------------------------------------------------------


async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {}
            for line in head[1:-2]:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            if headers.get("upgrade", "").lower() == "websocket":
                return await websocket(reader, writer, headers)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path, _, query = target.partition("?")
            status, said = await answer(method, path, query, body)
            told = f"HTTP/1.1 {status} OK\r\ncontent-length: {len(said)}\r\nx-member: {ME}\r\n\r\n"
            writer.write(told.encode() + said)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def websocket(reader, writer, headers):
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        + f"sec-websocket-accept: {accepted}\r\n\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await reader.readexactly(8))
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(size)
        data = bytes(byte ^ mask[at & 3] for at, byte in enumerate(masked))
        kind = first & 0x0F
        if data == b"who":
            data, size = ME.encode(), len(ME)
        if kind == 9:
            first = 0x8A
        length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
        writer.write(bytes([first]) + length + data)
        await writer.drain()
        if kind == 8:
            return


async def main():
    host, _, port = os.environ["PAAS_ENDPOINT_HTTP"].rpartition(":")
    await asyncio.start_server(serve, host.strip("[]"), int(port))
    await component.run()


asyncio.run(main())
