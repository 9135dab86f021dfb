"""The agents of a node as data: their order, users and directories (platform document §4.6.5).

    certificates ──> containers             both get a certificate from the first
                 └─> hub                    ready when it is connected with the containers' agent

An agent that dies is started anew alone: none holds another's state, and each finds the others
again by itself, so there is no reason to restart two for one.
"""

from __future__ import annotations

from dataclasses import dataclass

from paas.node.settings import CERTIFICATES_UID, HUB_UID


@dataclass(frozen=True, slots=True)
class Subsystem:
    """One agent: as which user it runs, which directories it gets, whether it is identified.

    `awaited`: the next one is started when this one is ready; otherwise at once, since the next one
    waits for it itself.
    """

    role: str
    uid: int
    directories: tuple[str, ...]
    identified: bool = True
    awaited: bool = True


SUBSYSTEMS = (
    Subsystem("certificates", CERTIFICATES_UID, ("certificates",), identified=False),
    Subsystem("containers", 0, ("containers", "blobs"), awaited=False),
    Subsystem("hub", HUB_UID, ("hub", "blobs", "logs")),
)
