"""The commands that change the section "volumes" of the cluster state.  Numbers 650-659.

`epoch` says what the proposer saw; if it is otherwise by now the command is a `conflict`.
"""

from __future__ import annotations

import msgspec

from paas.raft.command import command


@command(650)
class MoveVolumes(msgspec.Struct, frozen=True, kw_only=True):
    """The volumes of this owner are to be on node `to`; a component that has them ends there first.

    With `to` the node that has them: a move under way is given up.
    """

    owner: str
    epoch: int
    to: str
    grace_s: float = 10.0


@command(651)
class VolumesMoved(msgspec.Struct, frozen=True, kw_only=True):
    """Node `to` has a verified copy of all of them, named by `copy`: from now on that is them."""

    owner: str
    epoch: int
    copy: int
    to: str


@command(652)
class RemoveVolumes(msgspec.Struct, frozen=True, kw_only=True):
    """Forget the volumes of an owner; nobody may have them in use."""

    owner: str
    epoch: int
