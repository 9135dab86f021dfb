"""The configuration that is rendered: HAProxy itself says whether it is one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paas.base.errors import LocalError, PlatformError
from paas.gateway import rules
from paas.gateway.haproxy.agent import fitting
from paas.gateway.haproxy.quoting import formatted, word
from paas.gateway.haproxy.render import CONFIGURATION, MAP, render, render_map
from paas.gateway.haproxy.servers import Server, changes, found, wanted
from paas.gateway.haproxy.settings import HaproxySettings
from paas.gateway.messages import Route, RouteMember


def check(folder: Path, routes: list[Route], members: list[RouteMember]) -> str:
    """The rendered text, which HAProxy accepts."""
    at = HaproxySettings(folder=str(folder), listen=("127.0.0.1:8080",), edge="127.0.0.1:9")
    text = render(at, routes, wanted(routes, members))
    (folder / CONFIGURATION).write_bytes(text.encode("latin-1"))
    (folder / MAP).write_text(render_map(routes))
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(folder / CONFIGURATION)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    return text


def member(route: str, number: int = 1, **more: Any) -> RouteMember:
    given_: dict[str, Any] = {
        "component": f"{number:040x}",
        "incarnation": 1,
        "node": "n",
        "host": "127.0.0.1",
        "port": 9000 + number,
        "state": "serving",
        "weight": 100,
    }
    return RouteMember(route=route, **{**given_, **more})


EVERYTHING = Route(
    name="shop.web",
    group="web",
    host="*.example.org",
    path="/a/b",
    methods=("GET", "POST"),
    idempotent=True,
    sticky="cookie",
    rate=0.5,
    strip_prefix=True,
    headers={"x-a": "100% 'quoted' \"twice\" $HOME %[src] \\ # no comment", "x-b": "é"},
)


def test_every_kind_of_route_is_accepted(tmp_path: Path) -> None:
    routes = [
        EVERYTHING,
        Route(name="any", group="web"),
        Route(name="exact", group="web", host="a.b.example.org", sticky="address", rate=50),
        Route(name="call", group="web", kind="operation", path="/call"),
        Route(name="files", kind="static", directory="x", path="/files"),
        Route(name="deep", group="web", host="*.b.example.org", retries=0),
    ]
    some = [member("any", 1), member("any", 2, host="fd00::1", weight=1000), member("shop.web", 3)]
    text = check(tmp_path, routes, some)
    assert text.count("\nbackend r.") == 4
    assert text.index("str(*.b.example.org)") < text.index("str(*.example.org)")
    assert (tmp_path / MAP).read_text().splitlines() == [
        "/.well-known/acme-challenge/ edge",
        "/ r.any",
        "/call/ edge",
        "*.b.example.org/.well-known/acme-challenge/ edge",
        "*.b.example.org/ r.deep",
        "a.b.example.org/.well-known/acme-challenge/ edge",
        "a.b.example.org/ r.exact",
        "/files/ edge",
        "*.example.org/.well-known/acme-challenge/ edge",
        "*.example.org/a/b/ r.shop.web",
    ]


ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
BREAKING = st.sampled_from(
    [
        *(
            "\nbackend x",
            "' '",
            '"',
            "\\",
            "#",
            "%[env(HOME)]",
            "%",
            "$HOME",
            "${HOME}",
            "\r",
            "\0",
        ),
        *("} if TRUE", "unless { always_true }", "-f /etc/passwd", "-m reg .*", ";", "a b", "--"),
        *(
            "'\n  server x 1.2.3.4:5\n'",
            "/../..",
            "/a b",
            "/#",
            "/'",
            "/x}",
            "*",
            ".",
            "..",
            "é",
            "\u2028",
        ),
    ]
)
TEXT = st.one_of(BREAKING, ANY_TEXT, st.builds(lambda a, b: f"{a}{b}", ANY_TEXT, BREAKING))
TOKEN = st.text("!#$%&'*+-.^_`|~GETx09", min_size=1, max_size=8)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.one_of(st.just("r"), TEXT),
    host=st.one_of(st.just(""), st.just("*.example.org"), TEXT),
    path=st.one_of(
        st.just("/"), TEXT.map(lambda t: f"/{t}"), st.text("/$&'()*+,;=:@-~!a", min_size=1)
    ),
    methods=st.lists(st.one_of(TOKEN, TEXT), max_size=4),
    headers=st.dictionaries(st.one_of(TOKEN, TEXT), TEXT, max_size=3),
    strip=st.booleans(),
)
def test_no_value_can_be_anything_but_a_value(
    tmp_path: Path,
    name: str,
    host: str,
    path: str,
    methods: list[str],
    headers: dict[str, str],
    strip: bool,
) -> None:
    """Refused by the rules, or rendered to the same lines as a harmless one."""
    route = Route(
        name=name,
        group="g",
        host=host,
        path=path,
        methods=tuple(methods),
        headers=headers,
        strip_prefix=strip,
    )
    try:
        route = rules.check(route)
    except PlatformError:
        return
    text = check(tmp_path, [route], [member(route.name)])
    harmless = msgspec.structs.replace(
        route,
        methods=route.methods and ("GET",),
        headers={f"h{n}": "v" for n in range(len(route.headers))},
    )
    expected = render(
        HaproxySettings(folder=str(tmp_path), listen=("127.0.0.1:8080",), edge="127.0.0.1:9"),
        [harmless],
        wanted([harmless], [member(route.name)]),
    )
    starts = [re.match(r"\s*[\w-]*( set-header | server )?", line)[0] for line in text.splitlines()]  # type: ignore[index]
    assert starts == [
        re.match(r"\s*[\w-]*( set-header | server )?", line)[0]  # type: ignore[index]
        for line in expected.splitlines()
    ]


@settings(max_examples=300, deadline=None)
@given(value=TEXT)
def test_what_the_rules_would_let_pass_by_mistake_is_stopped_by_the_quotes(value: str) -> None:
    """The same values past the rules: an error, or one word without a way out of its quotes."""
    for render_word in (word, formatted):
        try:
            rendered = render_word(value)
        except LocalError:
            continue
        assert "\n" not in rendered
        if rendered.startswith("'"):
            inside = rendered[1:-1].replace("'\\''", "")
            assert "'" not in inside
        else:
            assert re.fullmatch(r"[A-Za-z0-9._:/@*=+%-]+", rendered)


def test_names_that_stand_without_quotes_are_matched_again(tmp_path: Path) -> None:
    at = HaproxySettings(folder=str(tmp_path))
    for wrong in ({"name": "a b"}, {"host": "a\n"}, {"path": "/a b"}, {"path": "/é"}):
        route = msgspec.structs.replace(Route(name="r", group="g", strip_prefix=True), **wrong)
        with pytest.raises(LocalError):
            render(at, [route], {}) + render_map([route])
    for folder in ("/a b", "relative", "/a'b"):
        with pytest.raises(LocalError):
            render(HaproxySettings(folder=folder), [], {})


def test_members_with_strange_addresses_are_refused() -> None:
    for wrong in ({"host": "1.2.3.4 maxconn 1"}, {"host": "evil.example.org"}, {"port": 70_000}):
        with pytest.raises(LocalError):
            wanted([Route(name="r", group="g")], [member("r", **wrong)])


def test_long_values_are_accepted_too(tmp_path: Path) -> None:
    headers = {f"x-{n}": "v" * 120 for n in range(32)}
    methods = tuple(f"METHOD-{n:02}" for n in range(32))
    path = "/" + "/".join(["segment"] * 127)
    route = rules.check(
        Route(name="n" * 128, group="g", path=path, headers=headers, methods=methods)
    )
    check(tmp_path, [route], [member(route.name, n) for n in range(300)])


# -- orders ----------------------------------------------------------------------------------------


def test_orders_make_what_is_there_what_it_should_be() -> None:
    key = ("r.a", "m_1")
    server = Server("127.0.0.1", 1, 100, True, 7)
    assert changes({key: server}, {}, checks=False) == [
        "add server r.a/m_1 127.0.0.1:1 id 7 weight 100 pool-purge-delay 1s",
        "enable server r.a/m_1",
    ]
    assert changes({key: server}, {key: server}, checks=True) == []
    leaving = Server("127.0.0.1", 1, 100, False, 7)
    assert changes({key: leaving}, {key: server}, checks=True) == ["set server r.a/m_1 state maint"]
    assert changes({key: server}, {key: leaving}, checks=True) == ["set server r.a/m_1 state ready"]
    assert changes({key: leaving}, {}, checks=True) == []
    assert changes({}, {key: server}, checks=True) == [
        "set server r.a/m_1 state maint",
        "del server r.a/m_1",
    ]
    other = Server("127.0.0.2", 1, 50, True, 7)
    assert changes({key: other}, {key: server}, checks=True) == [
        "set server r.a/m_1 addr 127.0.0.2 port 1",
        "set server r.a/m_1 weight 50",
    ]


def test_an_unknown_form_of_the_state_is_an_error() -> None:
    for text in ("", "2\n# be_id be_name", "Unknown command", "1\nwhat"):
        with pytest.raises(LocalError):
            found(text)


def test_identifiers_do_not_depend_on_who_else_is_there() -> None:
    """Consistent hashing goes by them."""
    route = Route(name="r", group="g")
    few = wanted([route], [member("r", 1), member("r", 2)])
    many = wanted([route], [member("r", n) for n in range(1, 50)])
    assert all(many[key].number == server.number for key, server in few.items())
    assert len({server.number for server in many.values()}) == 49


def test_connections_fit_into_the_descriptors_that_there_are() -> None:
    settings_ = HaproxySettings(folder="/x", connections_max=5000, listen=(":80",))
    assert [fitting(settings_, n) for n in (-1, 1 << 20, 1024, 10)] == [5000, 5000, 224, 16]


def test_weights_beyond_haproxy_s_are_scaled_and_none_vanishes() -> None:
    route = Route(name="r", group="g")
    some = [member("r", 1, weight=1000), member("r", 2, weight=1), member("r", 3, weight=0)]
    weights = [s.weight for _, s in sorted(wanted([route], some).items())]
    assert weights == [256, 1, 0]
