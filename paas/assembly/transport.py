"""How an agent gets what it speaks TLS with: its token traded, its certificate kept renewed."""

from __future__ import annotations

from functools import partial

from paas.assembly.process import Agent
from paas.base.errors import PlatformError
from paas.certificates.client import keep_renewed, obtain
from paas.identity.names import AgentName
from paas.identity.verify import trust
from paas.rpc.transport import SecureTransport


async def secure_transport(agent: Agent) -> SecureTransport:
    """Trade the agent's token for a certificate; what it speaks TLS with."""
    start = agent.start
    name = AgentName(start.cluster, start.node, agent.role, start.agent)
    identity = await obtain(start.authority_socket, start.token, name, clock=agent.clock)
    agent.identity = identity
    trusted = trust(start.cluster, [identity.authority_pem])
    transport = SecureTransport(identity, trusted, agent.clock)

    def failed(error: PlatformError) -> None:
        agent.log.warning("certificate.renewal_failed", error=str(error))

    agent.nursery.start_soon(
        partial(
            keep_renewed,
            start.authority_socket,
            identity,
            name,
            clock=agent.clock,
            entropy=agent.entropy,
            on_renewed=transport.renewed,
            on_failure=failed,
        )
    )
    return transport
