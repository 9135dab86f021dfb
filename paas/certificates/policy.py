"""Who may ask what.  A method without a row does not start."""

from __future__ import annotations

from paas.certificates.settings import Settings
from paas.rpc.dispatch import Rule
from paas.rpc.link import PeerCredentials

SPAWNER = "spawner"
LOCAL = "local"

POLICY: dict[str, Rule] = {
    "certificates.mint_token": Rule(frozenset({SPAWNER})),
    # The right to these is in what is shown: a token, or a certificate and its key.
    "certificates.redeem": Rule(frozenset({SPAWNER, LOCAL})),
    "certificates.renew": Rule(frozenset({SPAWNER, LOCAL})),
    "certificates.authority": Rule(frozenset({SPAWNER, LOCAL})),
}


def role_of(credentials: PeerCredentials, settings: Settings) -> str:
    """The role of a process at the other end of the socket, by what the kernel says of it."""
    right_user = credentials.uid == settings.spawner_uid
    right_process = settings.spawner_pid in (0, credentials.pid)
    return SPAWNER if right_user and right_process else LOCAL
