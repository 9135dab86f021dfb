"""Writes down what it is told, in a persistent volume, and reads it again."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any

from paas_component import Call, Component

DATA = Path("/data")
component = Component()


@component.operation("append")
def append(inputs: Any, call: Call) -> Any:
    """Acknowledged when it is on the disk."""
    with open(DATA / "ledger", "a") as file:
        file.write(f"{inputs['value']}\n")
        file.flush()
        os.fsync(file.fileno())
    return {}


@component.operation("read")
def read(inputs: Any, call: Call) -> Any:
    path = DATA / "ledger"
    return {"values": path.read_text().split() if path.exists() else []}


@component.operation("crash")
def crash(inputs: Any, call: Call) -> Any:
    os._exit(1)


@component.operation("fill")
def fill(inputs: Any, call: Call) -> Any:
    """So many MiB that are not zero and repeat nowhere."""
    chance = random.Random(inputs["seed"])
    with open(DATA / "large", "wb") as file:
        for _ in range(inputs["mib"]):
            file.write(chance.randbytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    return {"digest": digest_of("large")}


@component.operation("digest")
def digest(inputs: Any, call: Call) -> Any:
    return {"digest": digest_of("large")}


def digest_of(name: str) -> str:
    found = hashlib.sha256()
    with open(DATA / name, "rb") as file:
        while data := file.read(1 << 20):
            found.update(data)
    return found.hexdigest()


component.run()
