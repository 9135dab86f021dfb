"""Files of volumes on the disk of a simulated machine.

The content of a volume is the list of those who had it: each container that starts with it adds a
line.  So what a component finds tells whether anything was lost, and who wrote beside it.  Whole
copies outlive everything; what of a copy was not kept yet is torn when the power goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

from paas.base.errors import PlatformError
from paas.container.messages import VolumeCopy
from paas.controller.ports import StartOrder
from paas.sim.platform.invariants import Invariants
from paas.volume import messages

PIECE_BYTES = 96

Key = tuple[str, int]


class Attached(Protocol):
    """Who is told what is found in volumes, and what is then in them."""

    def attached(
        self, node: str, order: StartOrder, volume: str, found: bytes, *, fresh: bool
    ) -> bytes: ...


class NodeFiles:
    """The files of one machine."""

    def __init__(self, node: str, truth: Attached) -> None:
        self.whole: dict[Key, dict[str, bytes]] = {}
        self.incoming: dict[Key, dict[str, bytes]] = {}
        self._node = node
        self._truth = truth
        self._in_use: dict[Key, int] = {}

    def attach(self, order: StartOrder) -> None:
        """A container starts with them; raises `corrupt` for one that is not there."""
        for mount in order.volumes:
            copy = self.whole.get((mount.owner, mount.epoch), {})
            if mount.name not in copy and not mount.fresh:
                raise PlatformError("corrupt", f"{mount.owner}/{mount.name} is not on this node")
        for mount in order.volumes:
            key = (mount.owner, mount.epoch)
            copy = self.whole.setdefault(key, {})
            found = copy.get(mount.name, b"")
            name = f"{mount.owner}/{mount.name}"
            copy[mount.name] = self._truth.attached(
                self._node, order, name, found, fresh=mount.fresh
            )
            self._in_use[key] = self._in_use.get(key, 0) + 1

    def detach(self, order: StartOrder) -> None:
        for mount in order.volumes:
            self._in_use[mount.owner, mount.epoch] -= 1

    def power_off(self) -> None:
        for copy in self.incoming.values():
            for name, content in copy.items():
                copy[name] = content[: len(content) // 2]

    # -- requests --------------------------------------------------------------------------------

    def _idle(self, owner: str, epoch: int, volume: str) -> bytes:
        content = self.whole.get((owner, epoch), {}).get(volume)
        if content is None:
            raise PlatformError("no-such-target", f"no copy {epoch} of {owner}/{volume} is here")
        if self._in_use.get((owner, epoch)):
            raise PlatformError("conflict", f"{owner}/{volume} is in use")
        return content

    def copies(self, owner: str) -> list[VolumeCopy]:
        return [
            VolumeCopy(
                owner=name,
                epoch=epoch,
                complete=table is self.whole,
                attached=table is self.whole and bool(self._in_use.get((name, epoch))),
                sizes={volume: len(content) for volume, content in copy.items()},
                used={},
                stored=0,
            )
            for table in (self.whole, self.incoming)
            for (name, epoch), copy in table.items()
            if owner in ("", name)
        ]

    def read(self, owner: str, epoch: int, volume: str, offset: int) -> messages.Piece:
        content = self._idle(owner, epoch, volume)
        data = content[offset : offset + PIECE_BYTES]
        return messages.Piece(offset=offset, data=data, size=len(content))

    def digest(self, owner: str, epoch: int, volume: str) -> messages.Digest:
        content = self._idle(owner, epoch, volume)
        return messages.Digest(size=len(content), digest=hashlib.sha256(content).hexdigest())

    def begin(self, owner: str, epoch: int, volumes: list[str]) -> None:
        self.incoming[owner, epoch] = dict.fromkeys(volumes, b"")

    def write(self, owner: str, epoch: int, volume: str, offset: int, data: bytes) -> None:
        copy = self.incoming.get((owner, epoch), {})
        if volume not in copy:
            raise PlatformError("failed", "no such copy was begun")
        copy[volume] = copy[volume][:offset] + data

    def keep(self, owner: str, epoch: int, digests: dict[str, str]) -> None:
        if (owner, epoch) in self.whole:
            return
        copy = self.incoming.get((owner, epoch), {})
        if {v: hashlib.sha256(content).hexdigest() for v, content in copy.items()} != digests:
            raise PlatformError("corrupt", "the copy is not like the original")
        self.whole[owner, epoch] = self.incoming.pop((owner, epoch))

    def drop(self, owner: str, epoch: int) -> None:
        for volume in self.whole.get((owner, epoch), {}):
            self._idle(owner, epoch, volume)
        self.incoming.pop((owner, epoch), None)
        self.whole.pop((owner, epoch), None)


class VolumeJudge:
    """What is found in volumes, against what was left in them."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._left: dict[str, bytes] = {}

    def attached(
        self,
        node: str,
        order: StartOrder,
        volume: str,
        found: bytes,
        *,
        fresh: bool,
        running: Iterable[tuple[str, StartOrder]],
    ) -> bytes:
        """A container starts with this volume; what is in it afterwards."""
        require, owner = self._invariants.require, volume.partition("/")[0]
        me = f"{order.component[:8]}/{order.incarnation}"
        for where, other in running:
            shared = any(mount.owner == owner for mount in other.volumes)
            text = f"{me} has {volume} on {node}, while {other.component[:8]} does on {where}"
            require("volume-one-writer", not shared, text)
        left = self._left.get(volume, b"")
        text = f"{me} finds {found!r} in {volume} on {node}; left in it was {left!r}"
        require("volume-kept", fresh or found == left, text)
        self._left[volume] = found + f"{me} ".encode()
        return self._left[volume]
