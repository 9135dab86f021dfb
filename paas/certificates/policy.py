"""Who may ask what.  A method without a row does not start."""

from __future__ import annotations

from paas.certificates.settings import Settings
from paas.rpc.dispatch import Rule
from paas.rpc.link import PeerCredentials

SPAWNER = "spawner"
LOCAL = "local"
HUB = "hub"

_ANYBODY = frozenset({SPAWNER, HUB, LOCAL})
_CARRIERS = frozenset({SPAWNER, HUB})

POLICY: dict[str, Rule] = {
    "certificates.mint_token": Rule(frozenset({SPAWNER})),
    # The right to these is in what is shown: a token, or a certificate and its key.
    "certificates.redeem": Rule(_ANYBODY),
    "certificates.renew": Rule(_ANYBODY),
    "certificates.authority": Rule(_ANYBODY),
    # Hubs carry these between nodes; which node asks they know from each other's certificates.
    "certificates.certify_node": Rule(_CARRIERS),
    "certificates.node_request": Rule(_CARRIERS),
    "certificates.install_node": Rule(_CARRIERS),
    # The hub has asked who is an operator.
    "certificates.certify_access": Rule(frozenset({HUB})),
}


def role_of(credentials: PeerCredentials, settings: Settings) -> str:
    """The role of a process at the other end of the socket, by what the kernel says of it."""
    right_user = credentials.uid == settings.spawner_uid
    right_process = settings.spawner_pid in (0, credentials.pid)
    if right_user and right_process:
        return SPAWNER
    return HUB if credentials.uid == settings.hub_uid else LOCAL
