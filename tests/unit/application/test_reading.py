"""Reading application.toml: what is understood, and what is refused by file, line and field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.application import limits
from paas.application.fields import ROUTE_FIELDS
from paas.application.reading import from_plain, parse
from paas.application.specification import Requirement, Specification, Volume
from paas.base.errors import PlatformError
from paas.gateway.messages import Route
from paas.raft.command import Stamp, encode
from paas.wire import codec

SHOP = b"""
[application]
name = "shop"
version = "1.0.0"
description = "sells"

[roles.web]
source = "web"
count = 3
depends = ["store"]
groups = ["public"]
configuration = { greeting = "hello", deep = { list = [1, 2.5, true] } }
constraints = ["node!=n3"]
restart = "permanent"
grace = "5s"
replace = "start-first"

[roles.store]
type = "store@2.1"

[roles.disk]
source = "disk"
volume = { path = "/data", size = "64M" }

[routes.front]
group = "web"
host = "shop.example.org"
path = "/"
methods = ["GET", "POST"]
drain_s = "20s"
body_max = "1M"
weights = { "1.0.0" = 90, "1.1.0" = 10 }
websocket = true

[routes.files]
kind = "static"
path = "/files"
directory = "shop"

[requires.mail]
group = "mail-relay"
count = 2
"""


def refusal(text: bytes | str) -> PlatformError:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(PlatformError) as caught:
        parse(data, "shop/application.toml")
    return caught.value


def minimal(**tables: str) -> str:
    role = tables.pop("role", 'type = "t@1"')
    rest = "\n".join(tables.values())
    return f'[application]\nname = "shop"\n[roles.web]\n{role}\n{rest}'


def web(fields: str, *rest: str) -> str:
    """A file with a role of a type, these fields of it, and further tables."""
    return minimal(role=f"type = 't@1'\n{fields}", **{str(n): more for n, more in enumerate(rest)})


def test_a_whole_file_is_understood() -> None:
    shop = parse(SHOP)
    assert (shop.name, shop.version, shop.description) == ("shop", "1.0.0", "sells")
    web, store, disk = shop.roles
    assert (web.source, web.count, web.depends, web.groups) == ("web", 3, ("store",), ("public",))
    assert web.configuration == {"greeting": "hello", "deep": {"list": [1, 2.5, True]}}
    assert (web.grace, web.constraints, web.restart) == (5.0, ("node!=n3",), "permanent")
    assert (store.type, store.count, store.stops_first) == ("store@2.1", 1, False)
    assert disk.volume == Volume(path="/data", size=64 << 20)
    front, files = shop.routes
    assert front == Route(
        name="shop.front",
        application="shop",
        group="shop.web",
        host="shop.example.org",
        methods=("GET", "POST"),
        drain_s=20.0,
        body_max=1 << 20,
        weights={"1.0.0": 90, "1.1.0": 10},
        websocket=True,
    )
    assert (files.kind, files.directory, files.group) == ("static", "shop", "")
    assert shop.requires == (Requirement(name="mail", group="mail-relay", count=2),)
    assert [role.name for role in shop.birth_order()] == ["store", "web", "disk"]


def test_what_is_sent_is_read_as_the_same() -> None:
    shop = parse(SHOP)
    assert from_plain(shop.to_plain()) == shop
    assert from_plain(codec.unpack(codec.pack(shop.to_plain()))) == shop


def test_a_route_may_say_whatever_the_gateway_knows_but_whose_it_is() -> None:
    assert set(ROUTE_FIELDS) == set(Route.__struct_fields__) - {"name", "application"}
    route = '[routes.r]\ngroup = "web"\napplication = "other"'
    assert refusal(minimal(route=route)).data["field"] == "routes.r.application"


WRONG: dict[str, tuple[str, str, str]] = {
    "no name": ("[application]\nversion = '1'\n[roles.a]\ntype = 't'", "application.name", "is r"),
    "no role": ("[application]\nname = 'a'", "roles", "at least one"),
    "unknown table": (minimal(more="[services.x]"), "services", "unknown table"),
    "misspelt field": (minimal(role="tpye = 't@1'"), "roles.web.tpye", 'did you mean "type"'),
    "count as text": (web("count = '2'"), "roles.web.count", "whole number"),
    "count below 0": (web("count = -1"), "roles.web.count", "from 0"),
    "count as truth": (web("count = true"), "roles.web.count", "whole"),
    "too many": (web("count = 201"), "roles.web.count", "200"),
    "no type": (minimal(role="count = 1"), "roles.web", "neither"),
    "both": (web("source = 's'"), "roles.web", "both"),
    "type with spaces": (minimal(role="type = 't @1'"), "roles.web.type", "web@1.0.0"),
    "bad restart": (web("restart = 'always'"), "roles.web.restart", "one of"),
    "bad grace": (web("grace = 'soon'"), "roles.web.grace", "expected"),
    "long grace": (web("grace = '2h'"), "roles.web.grace", "3600"),
    "bad constraint": (web("constraints = ['zone=a']"), "roles.web.constraints", "node=NAME"),
    "bad group": (web("groups = ['a b']"), "roles.web.groups", "group"),
    "date": (web("configuration = { d = 2026-01-01 }"), "roles.web.configuration", "dates as text"),
    "huge number": (
        web(f"configuration = {{ n = {1 << 70} }}"),
        "roles.web.configuration",
        "64 bits",
    ),
    "infinite": (web("configuration = { n = inf }"), "roles.web.configuration", "finite"),
    "unknown role": (web("depends = ['wbe']"), "roles.web.depends", 'did you mean "web"'),
    "itself": (web("depends = ['web']"), "roles.web.depends", "web → web"),
    "circle": (
        web(
            "depends = ['a']",
            "[roles.a]\ntype='t'\ndepends=['b']",
            "[roles.b]\ntype='t'\ndepends=['a']",
        ),
        "roles.a.depends",
        "a → b → a",
    ),
    "volume of a type": (
        web("volume = { path = '/data', size = '64M' }"),
        "roles.web.volume",
        "source",
    ),
    "volume without size": (
        minimal(role="source='t'\nvolume = { path = '/data' }"),
        "roles.web.volume.size",
        "is required",
    ),
    "volume elsewhere": (
        minimal(role="source='t'\nvolume = { path = '/etc', size = '64M' }"),
        "roles.web.volume.path",
        "absolute path",
    ),
    "route without group": (minimal(r="[routes.r]\npath = '/'"), "routes.r.group", "required"),
    "route field": (
        minimal(r="[routes.r]\ngroup = 'web'\nretires = 1"),
        "routes.r.retires",
        'did you mean "retries"',
    ),
    "route value": (
        minimal(r="[routes.r]\ngroup = 'web'\nretries = 'x'"),
        "routes.r.retries",
        "int",
    ),
    "route kind": (
        minimal(r="[routes.r]\ngroup = 'web'\nkind = 'tcp'"),
        "routes.r.kind",
        "invalid enum",
    ),
    "route weights": (
        minimal(r="[routes.r]\ngroup = 'web'\nweights = { a = 'x' }"),
        "routes.r.weights",
        "int",
    ),
    "requires": (minimal(r="[requires.r]\ncount = 1"), "requires.r.group", "is required"),
    "name of a role": (minimal(r="[roles.Web_2]\ntype='t'"), "roles.Web_2", "lower-case"),
    "role as a list": ("[application]\nname='a'\n[[roles.web]]\ntype='t'", "roles.web", "table"),
    "long names": (
        f"[application]\nname = '{'a' * 40}'\n[roles.{'b' * 30}]\ntype='t'",
        f"roles.{'b' * 30}",
        "at most 63",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_by_field(name: str) -> None:
    text, field, words = WRONG[name]
    error = refusal(text)
    assert error.code == "invalid"
    assert error.data["field"] == field
    assert words in error.message
    assert error.message.startswith(f"shop/application.toml:{error.data['line']}: {field}: ")


def test_the_line_is_where_it_is_written() -> None:
    error = refusal(SHOP.replace(b'grace = "5s"', b'grace = "x"'))
    assert error.data["line"] == 1 + SHOP.split(b"\n").index(b'grace = "5s"')


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"[application", b"name = ", b"[a]\n[a]\n", b"a" * 100, b"x = " + b"[" * 5_000],
)
def test_what_is_not_toml_is_refused_by_line(text: bytes) -> None:
    error = refusal(text)
    assert error.code == "invalid"
    assert error.data["line"] >= 1


def test_size_is_bounded_as_a_file_and_as_data() -> None:
    assert refusal(b"#" * (limits.FILE_BYTES_MAX + 1)).code == "limit-exceeded"
    text = "x" * 15_000
    large = minimal(
        role=f"type='t'\nconfiguration = {{ a = '{text}' }}",
        more=f"[roles.b]\ntype='t'\nconfiguration = {{ a = '{text}' }}",
    )
    assert "bytes as data" in refusal(large).message
    too_large = web(f"configuration = {{ a = '{'x' * 17_000}' }}")
    assert refusal(too_large).data["field"] == "roles.web.configuration"


def test_members_of_all_roles_together_are_bounded() -> None:
    roles = "\n".join(f"[roles.r{n}]\ntype='t'\ncount = 200" for n in range(3))
    assert "500" in refusal(minimal(more=roles)).message


def test_the_largest_specification_is_a_command_of_the_log() -> None:
    from paas.application.commands import DeployApplication

    roles = {
        f"role-{n}": {"type": f"type-{n}@1.0.0", "configuration": {"a": "x" * 600}}
        for n in range(limits.ROLES_MAX)
    }
    routes: dict[str, Any] = {}
    while True:
        plain = {"application": {"name": "shop"}, "roles": roles, "routes": dict(routes)}
        routes[f"r{len(routes)}"] = {"group": "role-1", "path": f"/{len(routes)}"}
        if len(codec.pack(from_plain(plain).to_plain())) > limits.SPECIFICATION_BYTES_MAX - 200:
            break
        if len(routes) > limits.ROUTES_MAX:
            break
    command = DeployApplication(specification=from_plain(plain))
    assert encode(command, Stamp(1, b"x" * 32, "node", 1))


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "application",
                        "name",
                        "roles",
                        "web",
                        "type",
                        "count",
                        "routes",
                        "requires",
                        "g",
                    ]
                )
                | st.text(max_size=4),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_whatever_a_client_sends_is_read_or_refused(value: Any) -> None:
    read, error = outcome(from_plain, value)
    assert isinstance(read, Specification) or (error and error.code == "invalid")


def outcome(function: Any, *given: Any) -> tuple[Any, PlatformError | None]:
    """What it returned, or what it was refused with."""
    try:
        return function(*given), None
    except PlatformError as error:
        return None, error


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_whatever_is_in_a_file_is_read_or_refused(text: bytes) -> None:
    read, error = outcome(parse, SHOP[:200] + text)
    refused = error is not None and error.code in ("invalid", "limit-exceeded")
    assert isinstance(read, Specification) or refused
