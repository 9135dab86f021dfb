"""Applications in manifests: what is read, what is refused, and what two manifests agree on."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.bundle import manifest
from paas.bundle.manifest import Manifest, from_plain
from paas.bundle.manifest_terms import between

BASE = '[component]\nname = "a"\nversion = "1"\ncommand = ["x"]\n'
WHOLE = """\
[component]
name = "kv"
version = "1"
command = ["x"]
application = "storage"

[exposes.reading]
operations = ["list", "get", "get"]
objects = ["orders", ""]
to = ["shop", "billing"]

[exposes.health]
operations = ["*"]
to = ["*"]
objects = ["health"]

[requires.log]
group = "log/sink"
application = "logs"
operations = ["append"]
"""


def plain(application: str = "default", **sections: Any) -> dict[str, Any]:
    component = {"name": "a", "version": "1", "command": ["x"], "application": application}
    return {"component": component, **sections}


def made(application: str = "default", **sections: Any) -> Manifest:
    return from_plain(plain(application, **sections))


def test_applications_exposures_and_requirements_are_read_in_canonical_form() -> None:
    read = manifest.parse(WHOLE.encode())
    assert read.component.application == "storage"
    assert read.exposes == {
        "reading": manifest.Exposure(
            operations=("get", "list"), objects=("", "orders"), to=("billing", "shop")
        ),
        "health": manifest.Exposure(operations=("*",), objects=("health",), to=("*",)),
    }
    assert read.requires == {
        "log": manifest.Requirement(group="log/sink", application="logs", operations=("append",))
    }


@pytest.mark.parametrize("text", [WHOLE, BASE])
def test_the_canonical_form_is_plain_and_reads_back_equal(text: str) -> None:
    read = manifest.parse(text.encode())
    canonical = read.to_plain()
    assert json.loads(json.dumps(canonical)) == canonical
    assert from_plain(msgspec.msgpack.decode(msgspec.msgpack.encode(canonical))) == read


def test_a_manifest_from_before_applications_means_the_default_one() -> None:
    old = manifest.parse(BASE.encode()).to_plain()
    del old["exposes"], old["component"]["application"]
    old["requires"] = {"store": {"group": "kv"}}
    read = from_plain(old)
    assert read.component.application == "default"
    assert read.exposes == {}
    assert read.requires["store"] == manifest.Requirement(group="kv", operations=("*",))


@pytest.mark.parametrize(
    ("text", "line", "field", "expected"),
    [
        ('[exposes.x]\nto = ["a"]', 5, "exposes.x.operations", "is required"),
        ('[exposes.x]\noperations = ["a"]', 5, "exposes.x.to", "is required"),
        ('[exposes.x]\noperations = []\nto = ["a"]', 6, "exposes.x.operations", "1 to 256"),
        ('[exposes.x]\noperations = "a"\nto = ["a"]', 6, "exposes.x.operations", "a list"),
        ('[exposes.x]\noperations = ["g*"]\nto = ["a"]', 6, "exposes.x.operations", "each"),
        ('[exposes.x]\noperations = ["a"]\nto = ["Shop"]', 7, "exposes.x.to", "application"),
        ('[exposes.x]\noperations = ["a"]\nto = [""]', 7, "exposes.x.to", "application"),
        (
            '[exposes.x]\noperations = ["a"]\nto = ["b"]\nobjects = [7]',
            8,
            "exposes.x.objects",
            "object",
        ),
        (
            '[requires.x]\ngroup = "g"\napplication = "A"',
            7,
            "requires.x.application",
            "lower-case letters",
        ),
        ('[requires.x]\ngroup = "g"\noperations = [""]', 7, "requires.x.operations", "operation"),
        ('[exposes.x]\noperation = ["a"]', 6, "exposes.x.operation", '"operations"'),
    ],
)
def test_errors_name_line_field_and_what_was_expected(
    text: str, line: int, field: str, expected: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        manifest.parse((BASE + text + "\n").encode())
    error = caught.value
    assert (error.code, error.data["line"], error.data["field"]) == ("invalid", line, field)
    assert expected in error.message


def test_the_application_of_a_component_has_the_form_of_a_name() -> None:
    for wrong in ("*", "", "Shop", "a_b", 7):
        with pytest.raises(PlatformError) as caught:
            from_plain(plain(wrong))  # type: ignore[arg-type]
        assert caught.value.data["field"] == "component.application"


def test_within_one_application_nothing_has_to_be_declared() -> None:
    assert between(made("shop"), made("shop")).same_application


def test_between_applications_nothing_is_exposed_or_required_by_itself() -> None:
    terms = between(made("shop"), made("storage"))
    assert not terms.same_application
    assert not terms.exposes("get", "")
    assert terms.groups("get") == frozenset()


@pytest.mark.parametrize(
    ("exposure", "operation", "object_name", "exposed"),
    [
        ({"operations": ["get"], "to": ["shop"]}, "get", "", True),
        ({"operations": ["get"], "to": ["shop"]}, "get", "orders", True),
        ({"operations": ["get"], "to": ["shop"]}, "put", "", False),
        ({"operations": ["get"], "to": ["billing"]}, "get", "", False),
        ({"operations": ["get"], "to": ["*"]}, "get", "", True),
        ({"operations": ["*"], "to": ["billing", "shop"]}, "put", "", True),
        ({"operations": ["*"], "to": ["shop"], "objects": ["orders"]}, "put", "orders", True),
        ({"operations": ["*"], "to": ["shop"], "objects": ["orders"]}, "put", "", False),
        ({"operations": ["*"], "to": ["shop"], "objects": [""]}, "put", "", True),
        ({"operations": ["get"], "to": ["shop"]}, "*", "", False),
        ({"operations": ["get"], "to": ["shop"], "objects": [""]}, "get", "*", False),
    ],
)
def test_what_an_exposure_offers(
    exposure: dict[str, Any], operation: str, object_name: str, exposed: bool
) -> None:
    terms = between(made("shop"), made("storage", exposes={"x": exposure}))
    assert terms.exposes(operation, object_name) is exposed


def test_exposures_add_up() -> None:
    target = made(
        "storage",
        exposes={
            "a": {"operations": ["get"], "to": ["shop"], "objects": ["orders"]},
            "b": {"operations": ["*"], "to": ["*"], "objects": ["health"]},
        },
    )
    terms = between(made("shop"), target)
    offered = [
        (o, x) for o in ("get", "put") for x in ("", "orders", "health") if terms.exposes(o, x)
    ]
    assert offered == [("get", "orders"), ("get", "health"), ("put", "health")]


def test_requirements_name_groups_by_operation_and_application() -> None:
    caller = made(
        "shop",
        requires={
            "a": {"group": "kv", "operations": ["get"]},
            "b": {"group": "any", "application": "storage"},
            "c": {"group": "other", "application": "billing"},
        },
    )
    terms = between(caller, made("storage"))
    assert terms.groups("get") == {"kv", "any"}
    assert terms.groups("put") == {"any"}
    assert between(caller, made("billing")).groups("put") == {"other"}
    assert between(caller, made("logs")).groups("put") == frozenset()
