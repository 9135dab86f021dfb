"""Sends attachments of any size, and takes them; the codec is the first argument.

The bundle of a msgpack carrier has the package `msgpack` beside this file.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from paas_component import Call, Component, Result

PIECE_BYTES = 1 << 20
component = Component(codec=sys.argv[1])
kept: dict[str, Any] = {}


def pieces(size: int, seed: int) -> Iterator[bytes]:
    """Bytes that are made as they are sent."""
    block = hashlib.shake_256(b"%d" % seed).digest(PIECE_BYTES)
    for number, at in enumerate(range(0, size, PIECE_BYTES)):
        yield (b"%16d" % number + block[16:])[: min(PIECE_BYTES, size - at)]


def digest(size: int, seed: int) -> str:
    found = hashlib.sha256()
    for piece in pieces(size, seed):
        found.update(piece)
    return found.hexdigest()


@component.operation("send")
def send(inputs: Any, call: Call) -> Any:
    """Store an attachment and call somebody with it; what he says, and how long both took."""
    since = time.perf_counter()
    attached = component.attach(pieces(inputs["bytes"], inputs["seed"]), "data.bin")
    stored_s = time.perf_counter() - since
    outputs = component.call(
        inputs["target"],
        inputs.get("operation", "take"),
        {"seed": inputs["seed"]},
        attachments=[attached],
        timeout=inputs.get("timeout", 60),
    )
    return {
        "stored_s": stored_s,
        "outputs": outputs,
        "right": digest(inputs["bytes"], inputs["seed"]),
    }


@component.operation("take")
def take(inputs: Any, call: Call) -> Any:
    """Save what has come; its digest, and how long saving took."""
    since = time.perf_counter()
    (attached,) = call.attachments
    size = attached.save("received.bin")
    took_s = time.perf_counter() - since
    found = hashlib.sha256()
    with open("received.bin", "rb") as file:
        while block := file.read(PIECE_BYTES):
            found.update(block)
    os.unlink("received.bin")
    used_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"size": size, "sha256": found.hexdigest(), "took_s": took_s, "used_kib": used_kib}


@component.operation("keep")
def keep(inputs: Any, call: Call) -> Any:
    """Take it later: `read_kept`."""
    kept["item"] = call.attachments[0]
    return dict(kept["item"])


@component.operation("read_kept")
def read_kept(inputs: Any, call: Call) -> Any:
    return {"sha256": hashlib.sha256(kept["item"].read()).hexdigest()}


@component.operation("die")
def die(inputs: Any, call: Call) -> Any:
    """Read a first piece, then be killed."""
    item = call.attachments[0]
    place = {name: item[name] for name in ("blob", "node", "key")}
    component.request("blob.read", {**place, "offset": 0, "size": 1000})
    os.kill(os.getpid(), signal.SIGKILL)


@component.operation("give")
def give(inputs: Any, call: Call) -> Any:
    """Answer with an attachment."""
    made = component.attach(pieces(inputs["bytes"], inputs["seed"]), "given.bin")
    return Result({"right": digest(inputs["bytes"], inputs["seed"])}, [made])


@component.operation("get")
def get(inputs: Any, call: Call) -> Any:
    """Ask for an attachment, and read it."""
    wanted = {"bytes": inputs["bytes"], "seed": inputs["seed"]}
    answer = component.call_whole(inputs["target"], "give", wanted)
    with answer["attachments"][0].open() as file:
        found = hashlib.sha256(file.read()).hexdigest()
    return {"sha256": found, "right": answer["outputs"]["right"]}


@component.operation("request")
def request(inputs: Any, call: Call) -> Any:
    """Any method of the API, as this component."""
    return component.request(inputs["method"], inputs.get("params", {}))


component.run()
