"""Pools of things that only one container may have at a time: addresses, ranges of users.

Pure.  What was given back longest ago is given out first, so that something late for a former owner
(a packet, a file) rarely meets a new one.
"""

from __future__ import annotations

import ipaddress
from collections import deque

from paas.base.dual_stack import twin
from paas.base.errors import LocalError, PlatformError
from paas.container import limits


class Pool:
    """Numbers `first` to `last`."""

    def __init__(self, name: str, first: int, last: int) -> None:
        self._name = name
        self._first = first
        self._last = last
        self._next = first
        self._returned: deque[int] = deque()
        self._taken: set[int] = set()

    def take(self) -> int:
        """One that nobody has; raises `limit-exceeded` when there is none."""
        while self._next <= self._last:
            number = self._next
            self._next += 1
            if number not in self._taken:
                self._taken.add(number)
                return number
        if not self._returned:
            raise PlatformError("limit-exceeded", f"no {self._name} is free on this node")
        number = self._returned.popleft()
        self._taken.add(number)
        return number

    def reserve(self, number: int) -> None:
        """Mark one as taken that a record says is in use; raises LocalError for a second owner."""
        if not self._first <= number <= self._last or number in self._taken:
            raise LocalError(f"{self._name} {number} cannot be reserved")
        if number in self._returned:
            self._returned.remove(number)
        self._taken.add(number)

    def give_back(self, number: int) -> None:
        """Return one; returning what is not taken changes nothing."""
        if number in self._taken:
            self._taken.remove(number)
            self._returned.append(number)

    @property
    def taken(self) -> frozenset[int]:
        return frozenset(self._taken)


class Addresses:
    """The addresses of a node's containers; the first of the network is the bridge's.

    Those of version 6 go with those of version 4 (`twin`), where there is a prefix.
    """

    def __init__(self, network: str, prefix6: str = "") -> None:
        self.prefix6 = prefix6
        self._take(network)

    def renumber(self, network: str) -> None:
        """Another network; raises `conflict` while an address is in use."""
        if self._pool.taken:
            raise PlatformError("conflict", "addresses of this node's network are in use")
        self._take(network)

    def _take(self, network: str) -> None:
        self.network = ipaddress.IPv4Network(network)
        base = int(self.network.network_address)
        self._pool = Pool("address", base + 2, int(self.network.broadcast_address) - 1)
        self.gateway = str(self.network.network_address + 1)

    def twin(self, address: str) -> str:
        """The address or network of version 6 that goes with this one; empty: there is none."""
        return twin(self.prefix6, address) if self.prefix6 else ""

    def take(self) -> str:
        return str(ipaddress.IPv4Address(self._pool.take()))

    def reserve(self, address: str) -> None:
        self._pool.reserve(int(ipaddress.IPv4Address(address)))

    def give_back(self, address: str) -> None:
        self._pool.give_back(int(ipaddress.IPv4Address(address)))


class UserRanges:
    """Ranges of host users, one per container, named by their first user."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._pool = Pool("range of users", 0, limits.CONTAINERS_MAX - 1)

    def take(self) -> int:
        return self._base + self._pool.take() * limits.UIDS_PER_CONTAINER

    def reserve(self, first: int) -> None:
        index, rest = divmod(first - self._base, limits.UIDS_PER_CONTAINER)
        if rest:
            raise LocalError(f"{first} is not the first user of a range")
        self._pool.reserve(index)

    def give_back(self, first: int) -> None:
        self._pool.give_back((first - self._base) // limits.UIDS_PER_CONTAINER)
