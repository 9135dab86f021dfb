"""`rpc.discover`: the component API as an OpenRPC document, derived from the declared messages.

Source: OpenRPC 1.3.2; JSON Schema 2020-12 for parameters and results.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from paas import __version__
from paas.base.errors import CATALOGUE, PlatformError
from paas.hub.messages import Document
from paas.wire.registry import BY_NAME, Method

_TEMPLATE = "#/components/schemas/{name}"


@cache
def document() -> Document:
    """All public methods that this process declares."""
    return describe([BY_NAME[name] for name in sorted(BY_NAME) if BY_NAME[name].public])


def describe(methods: Sequence[Method[Any, Any]]) -> Document:
    """The document of these methods.  Types of one name in two sub-systems get longer names."""
    kinds = list(dict.fromkeys(kind for m in methods for kind in (m.params, m.result)))
    references, schemas = msgspec.json.schema_components(
        kinds, schema_hook=_raw, ref_template=_TEMPLATE
    )
    where = dict(zip(kinds, references, strict=True))
    return Document(
        openrpc="1.3.2",
        info={"title": "paas component API", "version": __version__},
        methods=[_method(m, where, schemas) for m in methods],
        components={"schemas": dict(schemas), "errors": _errors()},
    )


def _raw(kind: type) -> dict[str, Any]:
    """Payloads that the platform does not look into may be any value."""
    if kind is msgspec.Raw:
        return {}
    raise TypeError(kind)


def _method(
    method: Method[Any, Any], where: dict[type, dict[str, Any]], schemas: dict[str, Any]
) -> dict[str, Any]:
    own = schemas[where[method.params]["$ref"].rpartition("/")[2]]
    required = set(own.get("required", ()))
    params = [
        {"name": name, "required": name in required, "schema": schema}
        for name, schema in own.get("properties", {}).items()
    ]
    return {
        "name": method.name,
        "summary": method.text.partition("\n\n")[0].replace("\n", " "),
        "description": method.text,
        "paramStructure": "by-name",
        "params": params,
        "result": {"name": "result", "schema": where[method.result]},
    }


def _errors() -> dict[str, Any]:
    return {code: {**PlatformError(code).to_rpc(), "data": {"code": code}} for code in CATALOGUE}
