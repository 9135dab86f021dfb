"""The description of the API is OpenRPC 1.3, member by member as the specification allows them.

The tables below say, for each object of OpenRPC 1.3.2 §4 that the document uses, which members it
must have, which it may have (nothing else, but for `x-`), and of which kind they are.  Schemas are
checked against JSON Schema 2020-12's keywords: every keyword known, every reference there.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from paas.assembly import hub as _everything_declared
from paas.hub import openrpc
from paas.wire import codec

Check = Callable[[Any, str], Iterator[str]]

SCHEMA_KEYWORDS = {
    *("$ref", "title", "description", "type", "properties", "required", "additionalProperties"),
    *("items", "prefixItems", "minItems", "maxItems", "anyOf", "oneOf", "allOf", "enum", "const"),
    *("default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength"),
    *("maxLength", "pattern", "format", "contentEncoding", "discriminator", "examples"),
}
TYPES = {"null", "boolean", "object", "array", "number", "string", "integer"}


def kind(*kinds: type) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            yield f"{where}: {value!r:.50} is not {kinds}"

    return check


def matching(pattern: str) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            yield f"{where}: {value!r:.50} does not match {pattern}"

    return check


def each(check: Check) -> Check:
    def checks(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where}: not an array"
            return
        for number, item in enumerate(value):
            yield from check(item, f"{where}[{number}]")

    return checks


def named(check: Check) -> Check:
    def checks(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: not an object"
            return
        for name, item in value.items():
            if not re.fullmatch(r"[a-zA-Z0-9.\-_]+", name):
                yield f"{where}: {name!r} is no name of a component"
            yield from check(item, f"{where}.{name}")

    return checks


def record(required: dict[str, Check], optional: dict[str, Check]) -> Check:
    known = {**required, **optional}

    def checks(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: not an object"
            return
        yield from (f"{where}: {name} is missing" for name in required if name not in value)
        for name, item in value.items():
            if name in known:
                yield from known[name](item, f"{where}.{name}")
            elif not name.startswith("x-"):
                yield f"{where}: {name} is not of OpenRPC"

    return checks


def schema(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, bool):
        return
    if not isinstance(value, dict):
        yield f"{where}: a schema is an object or a boolean"
        return
    yield from (f"{where}: keyword {k}" for k in value if k not in SCHEMA_KEYWORDS)
    types = value.get("type", [])
    for one in types if isinstance(types, list) else [types]:
        if one not in TYPES:
            yield f"{where}: type {one!r}"
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for number, inner in enumerate(value.get(keyword, ())):
            yield from schema(inner, f"{where}.{keyword}[{number}]")
    for keyword in ("items", "additionalProperties"):
        if keyword in value:
            yield from schema(value[keyword], f"{where}.{keyword}")
    for name, inner in value.get("properties", {}).items():
        yield from schema(inner, f"{where}.{name}")
    for name in value.get("required", ()):
        if name not in value.get("properties", {}):
            yield f"{where}: requires {name}, which it does not describe"


text = kind(str)
DESCRIPTOR = record(
    {"name": matching(".+"), "schema": schema},
    {"summary": text, "description": text, "required": kind(bool), "deprecated": kind(bool)},
)
ERROR = record({"code": kind(int), "message": matching(".+")}, {"data": kind(object)})
METHOD = record(
    {"name": matching(r"(?!.*\s).+"), "params": each(DESCRIPTOR)},
    {
        "result": DESCRIPTOR,
        "summary": text,
        "description": text,
        "paramStructure": matching("by-name|by-position|either"),
        "errors": each(ERROR),
        "deprecated": kind(bool),
    },
)
DOCUMENT = record(
    {
        "openrpc": matching(r"1\.3\.[0-2]"),
        "info": record({"title": matching(".+"), "version": matching(".+")}, {"description": text}),
        "methods": each(METHOD),
    },
    {"components": record({}, {"schemas": named(schema), "errors": named(ERROR)})},
)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def findings(document: dict[str, Any]) -> list[str]:
    found = list(DOCUMENT(document, "document"))
    names = [m.get("name") for m in document.get("methods", ())]
    found += [f"method {name} twice" for name in {n for n in names if names.count(n) > 1}]
    for method in document.get("methods", ()):
        params = [p.get("name") for p in method.get("params", ())]
        if len(params) != len(set(params)):
            found.append(f"{method.get('name')}: a parameter twice")
        if method.get("paramStructure") != "by-name":
            flags = [bool(p.get("required")) for p in method.get("params", ())]
            if flags != sorted(flags, reverse=True):
                found.append(f"{method.get('name')}: required parameters come first")
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place.get(part) if isinstance(place, dict) else None
        if place is None:
            found.append(f"{reference} leads nowhere")
    return found


@pytest.fixture
def document() -> dict[str, Any]:
    assert _everything_declared
    plain: dict[str, Any] = codec.from_json(codec.to_json(openrpc.document()))
    return plain


def test_the_document_is_openrpc(document: dict[str, Any]) -> None:
    assert findings(document) == []


def test_what_is_public_is_described(document: dict[str, Any]) -> None:
    names = {method["name"] for method in document["methods"]}
    assert {"rpc.discover", "hub.call", "access.create_token", "cluster.status"} <= names
    assert not [name for name in names if name.startswith(("certificates.", "harness."))]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("openrpc",), "2.0"),
        (("info",), {"title": "x"}),
        (("extra",), 1),
        (("methods", 0, "name"), ""),
        (("methods", 0, "params"), {}),
        (("methods", 0, "result"), {"name": "x"}),
        (("methods", 0, "paramStructure"), "by-chance"),
        (("methods", 0, "result", "schema"), {"$ref": "#/components/schemas/Nowhere"}),
        (("components", "schemas", "X"), {"type": "text"}),
        (("components", "errors", "x"), {"code": "1", "message": "y"}),
    ],
)
def test_a_fault_in_a_document_is_found(
    document: dict[str, Any], path: tuple[Any, ...], value: Any
) -> None:
    faulty = copy.deepcopy(document)
    place: Any = faulty
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert findings(faulty)
