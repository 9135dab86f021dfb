"""The description of the API is a whole OpenRPC document: everything it refers to is there."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

import paas.bundle.messages
import paas.controller.messages
import paas.harness.messages
import paas.logs.messages
import paas.node.messages  # noqa: F401
from paas.base.errors import CATALOGUE
from paas.hub import openrpc
from paas.wire import codec
from paas.wire.registry import BY_NAME

TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """As a client gets it: through JSON."""
    made: dict[str, Any] = codec.from_json(codec.to_json(openrpc.document()))
    return made


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    """All schemas in a schema, itself included."""
    yield value
    for name in ("items", "additionalProperties", "not"):
        if isinstance(value.get(name), dict):
            yield from schemas(value[name])
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in value.get(name, ()):
            yield from schemas(inner)
    for name in ("properties", "$defs"):
        for inner in value.get(name, {}).values():
            yield from schemas(inner)


def all_schemas(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for schema in document["components"]["schemas"].values():
        yield from schemas(schema)
    for method in document["methods"]:
        yield from schemas(method["result"]["schema"])
        for param in method["params"]:
            yield from schemas(param["schema"])


def test_the_document_has_what_openrpc_requires(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"1\.3\.\d+", document["openrpc"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    assert set(document) == {"openrpc", "info", "methods", "components"}


def test_every_public_method_is_described_once_and_no_other(document: dict[str, Any]) -> None:
    names = [m["name"] for m in document["methods"]]
    assert names == sorted(set(names))
    assert set(names) == {n for n, m in BY_NAME.items() if m.public}
    assert {"rpc.discover", "hub.call", "component.invoke"} <= set(names)
    assert "harness.hello" not in names


def test_every_method_has_text_unique_params_and_a_result(document: dict[str, Any]) -> None:
    for method in document["methods"]:
        assert method["summary"], method["name"]
        assert "\n" not in method["summary"]
        assert method["paramStructure"] == "by-name"
        params = [p["name"] for p in method["params"]]
        assert len(params) == len(set(params))
        assert {"timeout", "deadline", "trace"} <= set(params), method["name"]
        for param in method["params"]:
            assert isinstance(param["required"], bool)
            assert isinstance(param["schema"], dict)
        assert method["result"]["name"]
        assert method["result"]["schema"]


def test_required_parameters_are_those_without_default(document: dict[str, Any]) -> None:
    (call,) = (m for m in document["methods"] if m["name"] == "hub.call")
    assert {p["name"] for p in call["params"] if p["required"]} == {"target", "operation"}
    (invoke,) = (m for m in document["methods"] if m["name"] == "component.invoke")
    assert "from" in {p["name"] for p in invoke["params"]}, "names as on the wire"


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    seen = 0
    for schema in all_schemas(document):
        if "$ref" not in schema:
            continue
        *path, last = schema["$ref"].removeprefix("#/").split("/")
        assert path == ["components", "schemas"]
        assert last in document["components"]["schemas"]
        seen += 1
    assert seen > 20


def test_every_schema_uses_known_words_rightly(document: dict[str, Any]) -> None:
    for schema in all_schemas(document):
        kind = schema.get("type")
        kinds = kind if isinstance(kind, list) else [kind] if kind else []
        assert set(kinds) <= TYPES, schema
        for name in schema.get("required", ()):
            assert name in schema["properties"], schema
        assert all(isinstance(v, str | int | float | None) for v in schema.get("enum", ()))


def test_the_catalogue_of_errors_is_there(document: dict[str, Any]) -> None:
    errors = document["components"]["errors"]
    assert set(errors) == set(CATALOGUE)
    for code, error in errors.items():
        assert isinstance(error["code"], int)
        assert error["message"]
        assert error["data"]["code"] == code
    assert errors["parse-error"]["code"] == -32700
    assert errors["conflict"]["code"] == -32000


def test_types_of_one_name_in_two_sub_systems_stay_apart() -> None:
    """Both have `Records`: the parameters of one method, the result of another."""
    methods = [BY_NAME["harness.records"], BY_NAME["log.query"]]
    made = openrpc.describe(methods)
    records, query = made.methods
    assert {p["name"] for p in records["params"]} >= {"records", "dropped"}
    where = query["result"]["schema"]["$ref"].rpartition("/")[2]
    assert where in made.components["schemas"]
    assert set(made.components["schemas"][where]["properties"]) == {"records"}


def test_the_document_fits_in_a_frame(document: dict[str, Any]) -> None:
    from paas.base.limits import FRAME_BYTES_MAX

    assert len(codec.to_json(document)) < FRAME_BYTES_MAX // 4
