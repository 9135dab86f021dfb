from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.certificates.policy import LOCAL, SPAWNER, role_of
from paas.certificates.settings import Settings
from paas.rpc.link import PeerCredentials

GOOD = {"cluster": "c1", "node": "n1", "directory": "/state", "socket_path": "/run/s"}


def test_the_defaults_are_valid() -> None:
    Settings(**GOOD)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cluster", "No"),
        ("node", ""),
        ("leaf_life_s", 1),
        ("leaf_life_s", 30 * 86_400),
        ("token_life_s", 0),
        ("token_life_s", 3_600),
        ("socket_path", "/state/socket"),
    ],
)
def test_a_bad_setting_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(PlatformError) as caught:
        Settings(**GOOD | {field: value})
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)


@pytest.mark.parametrize(
    ("pid", "uid", "spawner_pid", "role"),
    [
        (7, 0, 7, SPAWNER),
        (8, 0, 0, SPAWNER),
        (8, 0, 7, LOCAL),
        (7, 1_000, 7, LOCAL),
        (7, 1_000, 0, LOCAL),
    ],
)
def test_the_spawner_is_the_right_process_of_the_right_user(pid, uid, spawner_pid, role) -> None:
    settings = Settings(**GOOD, spawner_pid=spawner_pid)
    assert role_of(PeerCredentials(pid, uid, 0), settings) == role
