"""node.json: what it states, and that nothing else is taken for it."""

from __future__ import annotations

import json

import pytest

from paas.assembly.node_settings import settings_of
from paas.base.errors import PlatformError
from paas.node.settings import short_name

GOOD = {
    "cluster": "lab-1",
    "node": "n2",
    "listen": "10.130.0.2:7420",
    "join": "10.130.0.2:7421",
    "peers": {"n1": "10.130.0.1:7420"},
    "kind": "join",
}


def _write(tmp_path, value: object) -> str:
    (tmp_path / "node.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return str(tmp_path)


def test_a_directory_without_it_is_of_one_node_without_a_network(tmp_path):
    settings = settings_of(str(tmp_path))
    assert settings.cluster == f"dev-{short_name(str(tmp_path))}"
    assert (settings.node, settings.listen, settings.peers) == ("n1", "", {})


def test_agents_are_told_all_of_it(tmp_path):
    told = settings_of(_write(tmp_path, GOOD)).agent_settings()
    assert told == {
        "state": str(tmp_path),
        "operators": [0],
        "listen": "10.130.0.2:7420",
        "join_listen": "10.130.0.2:7421",
        "peers": {"n1": "10.130.0.1:7420"},
        "joined": True,
        "api_listen": "10.130.0.2:0",
        "trace_rate": 0.0,
        "backend": "namespaces",
        "filesystem": "auto",
        "ipv6": "off",
        "dns": {},
    }


def test_a_node_may_prefer_another_back_end_and_say_nothing_else(tmp_path):
    given = {"backend": "lxc", "filesystem": "binds", "ipv6": "auto"}
    settings = settings_of(_write(tmp_path, given))
    assert (settings.backend, settings.node, settings.listen) == ("lxc", "n1", "")
    assert settings.agent_settings()["backend"] == "lxc"
    assert settings.agent_settings()["filesystem"] == "binds"
    assert settings.agent_settings()["ipv6"] == "auto"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "not a JSON object"),
        ([], "not a JSON object"),
        ({**GOOD, "listen": "nowhere"}, "listen"),
        ({**GOOD, "listen": 7}, "listen"),
        ({**GOOD, "join": "a:99999"}, "join"),
        ({**GOOD, "peers": {"n1": "x"}}, "peers"),
        ({**GOOD, "peers": []}, "node.json"),
        ({**GOOD, "kind": "other"}, "node.json"),
        ({**GOOD, "node": "N 1"}, "node"),
        ({**GOOD, "cluster": ""}, "cluster"),
        ({**GOOD, "containers": "10.0.0.0/99"}, "node.json"),
        ({**GOOD, "dns": []}, "dns"),
        ({**GOOD, "dns": {"zone": "a b"}}, "dns.zone"),
        ({**GOOD, "backend": "chroot"}, "backend"),
        ({**GOOD, "filesystem": "ext2"}, "filesystem"),
        ({**GOOD, "ipv6": True}, "ipv6"),
    ],
)
def test_what_is_wrong_is_corrupt(tmp_path, value, said):
    with pytest.raises(PlatformError, match=said) as caught:
        settings_of(_write(tmp_path, value))
    assert caught.value.code == "corrupt"
