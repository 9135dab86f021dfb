"""Speaks length-prefixed msgpack, with the few lines of a codec that it needs."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
channel.connect(os.environ["PAAS_SOCKET"])


def pack(value: Any) -> bytes:
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return b"\xdb" + struct.pack(">I", len(data)) + data
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    pairs = [pack(key) + pack(item) for key, item in value.items()]
    return b"\xdf" + struct.pack(">I", len(pairs)) + b"".join(pairs)


NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
TEXT = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
BINARY = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
ARRAYS = {0xDC: ">H", 0xDD: ">I"}
MAPS = {0xDE: ">H", 0xDF: ">I"}


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self) -> Any:
        tag = self.take(1)[0]
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 0x100
        if tag < 0x90:
            return self.map(tag & 0x0F)
        if tag < 0xA0:
            return [self.value() for _ in range(tag & 0x0F)]
        if tag < 0xC0:
            return self.take(tag & 0x1F).decode()
        if tag in NUMBERS:
            return self.number(NUMBERS[tag])
        if tag in TEXT:
            return self.take(self.number(TEXT[tag])).decode()
        if tag in BINARY:
            return self.take(self.number(BINARY[tag]))
        if tag in ARRAYS:
            return [self.value() for _ in range(self.number(ARRAYS[tag]))]
        if tag in MAPS:
            return self.map(self.number(MAPS[tag]))
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag]

    def map(self, count: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(count)}


def send(message: dict[str, Any]) -> None:
    body = pack({"jsonrpc": "2.0", **message})
    channel.sendall(struct.pack(">I", len(body)) + body)


def exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = channel.recv(count - len(data))
        if not piece:
            raise SystemExit(0)
        data += piece
    return data


def invoke(params: dict[str, Any]) -> dict[str, Any]:
    inputs = params["inputs"]
    if params["operation"] == "half":
        channel.sendall(struct.pack(">I", 100) + b"only ten b")
        channel.close()
        raise SystemExit(4)
    if params["operation"] == "oversized":
        channel.sendall(struct.pack(">I", 1 << 30) + b"x" * 100)
    sizes = [len(one["data"]) for one in params["attachments"]]
    return {
        "outputs": {"inputs": inputs, "sizes": sizes},
        "attachments": [{"name": "back", "type": "application/octet-stream", "data": b"\x00\xff"}],
    }


send({"id": 1, "method": "component.ready", "params": {}})
while True:
    message = Reader(exactly(struct.unpack(">I", exactly(4))[0])).value()
    if message.get("method") == "component.invoke":
        send({"id": message["id"], "result": invoke(message["params"])})
    elif "method" in message and "id" in message:
        send({"id": message["id"], "result": {"accepted": True}})
        if message["method"] == "component.terminate":
            raise SystemExit(0)
