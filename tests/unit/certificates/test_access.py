"""Certificates for access from outside: the server's, operators', and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.certificates import messages
from paas.certificates.limits import OPERATOR_LIFE_S_MAX
from paas.certificates.policy import HUB, POLICY
from paas.identity import csr, keys
from paas.identity.names import API, API_ID, OPERATOR, AgentName
from paas.identity.verify import verify


def ask(rig: Any, name: AgentName, life_s: int = 600) -> messages.Issued:
    request = csr.make(name, keys.make_key()).decode()
    params = messages.CertifyAccess(request=request, life_s=life_s)
    issued: messages.Issued = rig.service().certify_access(params, rig.agent)
    return issued


@pytest.mark.parametrize(("role", "identity"), [(API, API_ID), (OPERATOR, "operator-anna")])
def test_the_server_and_operators_are_certified(rig: Any, role: str, identity: str) -> None:
    of = rig.name()
    name = AgentName(of.cluster, of.node, role, identity)
    issued = ask(rig, name)
    verdict = verify(issued.certificate.encode(), rig.open()[0].trust, rig.clock.now_ms(), {role})
    assert verdict.name == name
    assert verdict.capabilities == frozenset()


@pytest.mark.parametrize(
    ("role", "identity"),
    [("hub", "hub-1"), ("node", "node-1"), (API, "other"), (OPERATOR, API_ID), (OPERATOR, "hub-1")],
)
def test_nobody_else_is(rig: Any, role: str, identity: str) -> None:
    """An operator under an agent's identity would have that agent's host name."""
    of = rig.name()
    with pytest.raises(PlatformError) as caught:
        ask(rig, AgentName(of.cluster, of.node, role, identity))
    assert caught.value.code == "denied"


def test_names_of_other_nodes_and_clusters_are_refused(rig: Any) -> None:
    of = rig.name()
    for cluster, node in (("elsewhere", of.node), (of.cluster, "n9")):
        with pytest.raises(PlatformError) as caught:
            ask(rig, AgentName(cluster, node, OPERATOR, "operator-anna"))
        assert caught.value.code == "denied"


@pytest.mark.parametrize("life_s", [0, -1, OPERATOR_LIFE_S_MAX + 1])
def test_the_life_is_bounded(rig: Any, life_s: int) -> None:
    of = rig.name()
    with pytest.raises(PlatformError) as caught:
        ask(rig, AgentName(of.cluster, of.node, OPERATOR, "operator-anna"), life_s)
    assert caught.value.code == "invalid"


def test_only_the_hub_may_ask() -> None:
    assert POLICY["certificates.certify_access"].roles == {HUB}
