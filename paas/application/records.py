"""What the cluster knows about one application.  Plain data; written by state.py only.

Times in milliseconds since the Unix epoch; `birth` and `index` are positions in the log.
"""

from __future__ import annotations

import msgspec

from paas.application.lifecycle import APPLICATION, RUNS, ApplicationState
from paas.application.specification import Role, Specification, member_name

NOT_READY = frozenset({"none", "preparing", "initializing"})
"""States of a component that comes up, for the first time or again."""

READY = "available"
FAILED = "failed"
DESTROYED = "destroyed"


class Member(msgspec.Struct, kw_only=True):
    """One component of an application, from its creation until nothing of it is left."""

    component: str
    role: str
    slot: int
    digest: str
    """Of its role when it was born; another than the role's now: it is outdated."""
    birth: int
    """Index of the command that created it."""
    type: str = ""
    node: str = ""
    state: str = "none"
    reason: str = ""
    since_ms: int = 0
    ending: bool = False
    """It was told to end, by whomever."""

    @property
    def available(self) -> bool:
        return self.state == READY and not self.ending

    @property
    def living(self) -> bool:
        """It is there, or will be, and was not told to end."""
        return not self.ending and self.state != FAILED


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is not as wanted: `what` is a role, `route NAME`, or `application`."""

    what: str
    code: str
    text: str
    since_ms: int


class Application(msgspec.Struct, kw_only=True):
    """One application: what is wanted, what is there, what is wrong."""

    name: str
    specification: Specification
    state: ApplicationState = APPLICATION.initial
    revision: int = 0
    """Raised by every change of what is wanted."""
    since_ms: int = 0
    deployed_ms: int = 0
    since_index: int = 0
    """Log index of the command that made it: another one after it was destroyed and made again."""
    index: int = 0
    """Log index of the last change of anything here."""
    members: dict[str, Member] = {}
    """By component, in the order of their births."""
    done: dict[str, int] = {}
    """By role, members that came to their end by themselves and are not to be born again."""
    births: dict[str, int] = {}
    """By `role/slot`, how many were born there."""
    troubles: dict[str, Trouble] = {}
    remove_volumes: bool = False
    """With `destroying`: its files are to go too."""

    @property
    def runs(self) -> bool:
        return self.state in RUNS

    def of_role(self, role: str) -> list[Member]:
        return [member for member in self.members.values() if member.role == role]

    def target(self, role: Role) -> int:
        """How many members of a role are to be there, when the application runs."""
        return max(0, role.count - self.done.get(role.name, 0))

    def birth_request(self, role: str, slot: int) -> str:
        """Names the next birth in this place, so that it happens once, whoever asks for it."""
        born = self.births.get(place(role, slot), 0)
        return f"{self.since_index}.{self.revision}.{born}"

    def owners(self) -> list[str]:
        """The names that members ever had; volumes belong to them."""
        found = []
        for place in self.births:
            role, _, slot = place.rpartition("/")
            found.append(member_name(self.name, role, int(slot)))
        return found


def place(role: str, slot: int) -> str:
    """The key of `Application.births`."""
    return f"{role}/{slot}"
