"""Identifiers: 160 bits that name an entity for life, and place it on the ring.

    virtual node (16) | category (16) | sub-entity (32) | unique (96)     as 40 hex digits

The virtual-node prefix says which agents decide about the entity (platform document §4.7.4); the
category says what kind of thing it names; the sub-entity is zero for the entity itself; the unique
part is random, so an identifier is never used twice.  Types confine their components to a fraction
of the ring: the first `TYPE_PREFIX_BITS` of the virtual node are fixed by the type's name.
"""

from __future__ import annotations

import enum
import hashlib
import re
from typing import NewType

Id = NewType("Id", str)

VIRTUAL_NODES = 4096
VIRTUAL_NODE_BITS = 12
TYPE_PREFIX_BITS = 6
UNIQUE_BYTES = 12

_PATTERN = re.compile(r"[0-9a-f]{40}")

assert 1 << VIRTUAL_NODE_BITS == VIRTUAL_NODES
assert TYPE_PREFIX_BITS < VIRTUAL_NODE_BITS


class Category(enum.IntEnum):
    """What an identifier names.  Numbers are never reused."""

    CLUSTER = 1
    NODE = 2
    AGENT = 3
    COMPONENT = 4
    WATCH = 5


def make(category: Category, virtual_node: int, unique: bytes, sub_entity: int = 0) -> Id:
    """Compose an identifier.  `unique` is 12 bytes of entropy drawn by the caller."""
    if not 0 <= virtual_node < VIRTUAL_NODES:
        raise ValueError(f"virtual node {virtual_node} is not in 0..{VIRTUAL_NODES - 1}")
    if len(unique) != UNIQUE_BYTES:
        raise ValueError(f"the unique part has {len(unique)} bytes, {UNIQUE_BYTES} are needed")
    if not 0 <= sub_entity < 1 << 32:
        raise ValueError("the sub-entity does not fit in 32 bits")
    return Id(f"{virtual_node:04x}{category:04x}{sub_entity:08x}{unique.hex()}")


def parse(text: str) -> Id:
    """Check that `text` is a whole identifier; raises ValueError."""
    if not _PATTERN.fullmatch(text):
        raise ValueError("an identifier is 40 lower-case hexadecimal digits")
    return Id(text)


def is_id(text: str) -> bool:
    return _PATTERN.fullmatch(text) is not None


def is_prefix(text: str) -> bool:
    """Could this be the beginning of an identifier that a person typed (8 digits or more)?"""
    return re.fullmatch(r"[0-9a-f]{8,40}", text) is not None


def virtual_node(entity: Id) -> int:
    return int(entity[:4], 16)


def category(entity: Id) -> Category:
    return Category(int(entity[4:8], 16))


def component_virtual_node(type_name: str, unique: bytes) -> int:
    """Where on the ring a component of this type lives: prefix by the type, rest by chance."""
    free = VIRTUAL_NODE_BITS - TYPE_PREFIX_BITS
    digest = hashlib.sha256(type_name.encode()).digest()
    prefix = int.from_bytes(digest[:2], "big") >> (16 - TYPE_PREFIX_BITS)
    return (prefix << free) | (int.from_bytes(unique[:2], "big") & ((1 << free) - 1))


def component_id(type_name: str, unique: bytes) -> Id:
    """A new component's identifier; `unique` is 12 bytes of entropy."""
    return make(Category.COMPONENT, component_virtual_node(type_name, unique), unique)
