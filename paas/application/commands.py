"""The commands that change the section "applications" of the cluster state.  Numbers 710-729.

`if_revision` says which revision the proposer saw; -1: it does not matter.
"""

from __future__ import annotations

import msgspec

from paas.application.specification import Specification
from paas.raft.command import command


@command(710)
class DeployApplication(msgspec.Struct, frozen=True, kw_only=True):
    """From now on the application is wanted to be this, and to run."""

    specification: Specification
    if_revision: int = -1


@command(711)
class ScaleApplication(msgspec.Struct, frozen=True, kw_only=True):
    """Other numbers of members, by role."""

    application: str
    counts: dict[str, int]
    if_revision: int = -1


@command(712)
class StopApplication(msgspec.Struct, frozen=True, kw_only=True):
    """Its members are to end; what it was wanted to be stays known."""

    application: str


@command(713)
class StartApplication(msgspec.Struct, frozen=True, kw_only=True):
    """It is to run again."""

    application: str


@command(714)
class DestroyApplication(msgspec.Struct, frozen=True, kw_only=True):
    """All of it is to go; with `volumes` also the files that its members kept."""

    application: str
    volumes: bool = False


@command(715)
class ApplicationSettled(msgspec.Struct, frozen=True, kw_only=True):
    """At this revision everything was seen to be as it is wanted."""

    application: str
    revision: int


@command(716)
class ApplicationLost(msgspec.Struct, frozen=True, kw_only=True):
    """At this revision something was seen to be missing again."""

    application: str
    revision: int


@command(717)
class NoteTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is not as wanted; an empty `text` takes it back."""

    application: str
    what: str
    code: str = ""
    text: str = ""


@command(718)
class ForgetApplication(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is left of an application that is to go."""

    application: str
    revision: int


@command(719)
class ForgetStray(msgspec.Struct, frozen=True, kw_only=True):
    """A component that was born for an application after that had gone has been told to end."""

    component: str
