from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.identity.names import AgentName, from_uri

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=2).map(".".join)
NAMES = st.builds(AgentName, HOST, HOST, LABEL, LABEL)


@given(NAMES)
def test_a_name_comes_back_from_its_uri(name: AgentName) -> None:
    assert from_uri(name.uri) == name


@given(NAMES, NAMES)
def test_two_names_are_equal_exactly_if_their_uris_are(one: AgentName, two: AgentName) -> None:
    assert (one == two) == (one.uri == two.uri)


@given(NAMES)
def test_the_host_name_is_a_legal_one(name: AgentName) -> None:
    assert len(name.dns) <= 253
    assert all(0 < len(label) <= 63 for label in name.dns.split("."))


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    assert from_uri(text) is None
    assert from_uri(f"spiffe://c1/node/{text}/agent/hub/a1") in (None, _or_none(text))


def _or_none(node: str) -> AgentName | None:
    try:
        return AgentName("c1", node, "hub", "a1")
    except PlatformError:
        return None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://c1",
        "https://c1/node/n1/agent/hub/a1",
        "spiffe://c1/node/n1/agent/hub/a1/",
        "spiffe://c1/node/n1/agent/hub/a1\n",
        "spiffe://c1/node/n1/agent/hub/a1?x=1",
        "spiffe://C1/node/n1/agent/hub/a1",
        "spiffe://c1/node/../agent/hub/a1",
        "spiffe://c1/node/n1/agent/hub/%61",
        "spiffe://user@c1/node/n1/agent/hub/a1",
        "spiffe://c1:443/node/n1/agent/hub/a1",
    ],
)
def test_what_is_not_exactly_our_form_is_no_name(uri: str) -> None:
    assert from_uri(uri) is None


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("cluster", ("", "n1", "hub", "a1")),
        ("cluster", ("c" * 65, "n1", "hub", "a1")),
        ("cluster", ("c1.", "n1", "hub", "a1")),
        ("node", ("c1", "n 1", "hub", "a1")),
        ("node", ("c1", "n1\n", "hub", "a1")),
        ("subsystem", ("c1", "n1", "Hub", "a1")),
        ("subsystem", ("c1", "n1", "hub.x", "a1")),
        ("id", ("c1", "n1", "hub", "-a")),
        ("id", ("c1", "n1", "hub", "a" * 64)),
    ],
)
def test_a_bad_part_is_refused_by_name(field: str, parts: tuple[str, str, str, str]) -> None:
    with pytest.raises(PlatformError) as caught:
        AgentName(*parts)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)


def test_an_identifier_of_forty_digits_fits() -> None:
    assert AgentName("c1", "n1", "hub", "f" * 40).dns == f"{'f' * 40}.n1.c1"
