"""The agents of a node as data: their order, users and directories (platform document §4.6.5).

    certificates ──> containers ──> hub          each gets a certificate from the first

An agent that dies is started anew alone: none holds another's state, and each finds the others
again by itself, so there is no reason to restart two for one.
"""

from __future__ import annotations

from dataclasses import dataclass

from paas.node.settings import CERTIFICATES_UID, HUB_UID


@dataclass(frozen=True, slots=True)
class Subsystem:
    """One agent: as which user it runs, which directories it gets, whether it is identified."""

    role: str
    uid: int
    directories: tuple[str, ...]
    identified: bool = True


SUBSYSTEMS = (
    Subsystem("certificates", CERTIFICATES_UID, ("certificates",), identified=False),
    Subsystem("containers", 0, ("containers", "blobs")),
    Subsystem("hub", HUB_UID, ("hub", "blobs", "logs")),
)
