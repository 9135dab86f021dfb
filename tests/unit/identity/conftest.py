"""Authorities and agents for the tests of identities."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from paas.identity import capabilities, keys, x509
from paas.identity.names import AgentName
from paas.identity.tls import Identity
from paas.identity.verify import Trust

DAY_S = 86_400


@dataclass
class World:
    """One cluster with its authority, from which a test takes identities."""

    cluster: str
    authority: x509.Authority
    now_ms: int

    @property
    def trust(self) -> Trust:
        return Trust(self.cluster, (self.authority.certificate,))

    @property
    def authority_pem(self) -> bytes:
        return x509.certificate_pem(self.authority.certificate)

    def name(self, role: str, identity: str = "a1", node: str = "n1") -> AgentName:
        return AgentName(self.cluster, node, role, identity)

    def leaf(
        self,
        name: AgentName,
        key: keys.PrivateKey,
        *,
        begins_in_s: int = 0,
        life_s: int = DAY_S,
        serial: int = 7,
    ) -> x509.Certificate:
        return x509.make_leaf(
            self.authority,
            name,
            key.public_key(),
            serial=serial,
            now_ms=self.now_ms + begins_in_s * 1_000,
            life_s=life_s,
            capabilities=capabilities.OF_ROLE.get(name.subsystem, frozenset()),
        )

    def identity(self, role: str, *, begins_in_s: int = 0, life_s: int = DAY_S) -> Identity:
        key = keys.make_key()
        leaf = self.leaf(self.name(role), key, begins_in_s=begins_in_s, life_s=life_s)
        return Identity(x509.certificate_pem(leaf), keys.key_pem(key), self.authority_pem)

    def node_authority(
        self, node: str = "n1", *, begins_in_s: int = 0, life_s: int = 10 * DAY_S
    ) -> x509.Authority:
        """An authority of a node, signed by the cluster's."""
        key = keys.make_key()
        certificate = x509.make_node_authority(
            self.authority,
            self.cluster,
            node,
            key.public_key(),
            serial=5,
            now_ms=self.now_ms + begins_in_s * 1_000,
            life_s=life_s,
        )
        return x509.Authority(certificate, key)

    def identity_of(self, name: AgentName, signer: x509.Authority) -> Identity:
        """An agent's identity, whoever signs it; the signer's certificate follows."""
        key = keys.make_key()
        leaf = x509.make_leaf(
            signer,
            name,
            key.public_key(),
            serial=9,
            now_ms=self.now_ms,
            life_s=DAY_S,
            capabilities=capabilities.OF_ROLE.get(name.subsystem, frozenset()),
        )
        chain = x509.certificate_pem(leaf) + x509.certificate_pem(signer.certificate)
        return Identity(chain, keys.key_pem(key), self.authority_pem)


MakeWorld = Callable[..., World]


def _world(cluster: str = "c1", *, life_s: int = 90 * DAY_S, ago_s: int = 15 * DAY_S) -> World:
    now_ms = int(time.time()) * 1_000
    key = keys.make_key()
    certificate = x509.make_authority(
        cluster, key, serial=1, now_ms=now_ms - ago_s * 1_000, life_s=life_s
    )
    return World(cluster, x509.Authority(certificate, key), now_ms)


@pytest.fixture(scope="session")
def make_world() -> MakeWorld:
    return _world


@pytest.fixture(scope="session")
def world() -> World:
    return _world()
