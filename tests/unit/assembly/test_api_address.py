"""Where a node answers programs outside, by its settings."""

from __future__ import annotations

import pytest

from paas.assembly.node_settings import node_settings
from paas.base.errors import PlatformError
from paas.node.settings import NodeSettings


@pytest.mark.parametrize(
    ("plain", "address"),
    [
        ({}, "127.0.0.1:0"),
        ({"listen": "10.1.2.3:7420"}, "10.1.2.3:0"),
        ({"listen": "[fd00::1]:7420"}, "[fd00::1]:0"),
        ({"api": "0.0.0.0:8443"}, "0.0.0.0:8443"),
        ({"api": "10.0.0.1:0"}, "10.0.0.1:0"),
        ({"api": "off"}, "off"),
    ],
)
def test_the_address_for_programs_outside(plain: dict[str, str], address: str) -> None:
    settings = node_settings("/nowhere", "c1", plain)
    assert settings.api_address == address
    assert settings.agent_settings()["api_listen"] == address


@pytest.mark.parametrize("wrong", ["8443", ":8443", "host:", "host:70000", "on", 8443])
def test_a_wrong_address_is_named(wrong: object) -> None:
    with pytest.raises(PlatformError) as caught:
        node_settings("/nowhere", "c1", {"api": wrong})
    assert caught.value.code == "corrupt"
    assert "api" in caught.value.message


def test_a_node_without_a_network_stays_on_its_machine() -> None:
    assert NodeSettings(state="/nowhere", cluster="c1").api_address.startswith("127.0.0.1:")
