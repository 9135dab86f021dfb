"""The packet filter for containers, in nftables: what is in its sets; every change is one
transaction (nft(8), "-f"; the rules are in kernel_tables.py).

What the kernel has and what is remembered here are the same: a transaction that fails changes
neither.  Only our own two tables are ever named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import trio

from paas.base.dual_stack import twin
from paas.base.errors import PlatformError
from paas.real.kernel_tables import (
    SETS,
    Command,
    Element,
    Names,
    elements_command,
    removal,
    table_document,
    with_twins,
)

Grant = tuple[str, str, str, int]
"""(source, target, protocol, port)"""

Elements = Mapping[str, Iterable[Element]]
"""Set to elements."""

NONE: Elements = MappingProxyType({})


class Firewall:
    """The two tables of one node."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._have: dict[str, set[tuple[str | int, ...]]] = {name: set() for name in SETS}
        self._resolved: dict[str, dict[Grant, float]] = {}  # when each is too old
        self._changing = trio.Lock()

    async def open(self, elements: Elements) -> None:
        """Make the tables with exactly these elements, in one transaction."""
        have: dict[str, set[tuple[str | int, ...]]] = {name: set() for name in SETS}
        have |= {name: set(listed) for name, listed in self._both(elements).items()}
        document = table_document(self._names)
        for name, listed in have.items():
            document += self._command("add", name, listed)
        async with self._changing:
            await _apply(document)
            self._have = have

    async def close(self) -> None:
        commands: list[Command] = []
        for family in ("inet", "bridge"):
            commands += removal(family, self._names.table)
        await _apply(commands)

    async def change(self, *, add: Elements = NONE, delete: Elements = NONE) -> None:
        """Add what is not there and delete what is, in one transaction."""
        async with self._changing:
            commands: list[Command] = []
            gone = {name: self._have[name] & set(e) for name, e in self._both(delete).items()}
            fresh = {name: set(e) - self._have[name] for name, e in self._both(add).items()}
            for name, elements in gone.items():
                commands += self._command("delete", name, elements)
            for name, elements in fresh.items():
                commands += self._command("add", name, elements)
            await _apply(commands)
            for name, elements in gone.items():
                self._have[name] -= elements
            for name, elements in fresh.items():
                self._have[name] |= elements

    async def replace(self, name: str, elements: Iterable[Element]) -> None:
        """Let a set have exactly these elements."""
        wanted = set(map(tuple, elements))
        await self.change(add={name: wanted}, delete={name: self._have[name] - wanted})

    async def grant(self, *grants: Grant) -> None:
        """Open paths."""
        await self.change(add={"grants": grants})

    async def revoke(self, *grants: Grant) -> None:
        await self.change(delete={"grants": grants})

    async def allow_source(self, *sources: tuple[str, str]) -> None:
        """Let these (link, address) pairs send."""
        await self.change(add={"sources": sources})

    async def forget(self, link: str, address: str) -> None:
        """Remove every element that names the link or the address, or its twin of version 6."""
        named = {link, address, *self._twins(address)}
        await self.change(
            delete={
                name: [e for e in have if not named.isdisjoint(e)]
                for name, have in self._have.items()
            }
        )
        for source in (address, *self._twins(address)):
            await self.unresolve(source)

    def _twins(self, address: str) -> list[str]:
        return [twin(self._names.prefix6, address)] if self._names.prefix6 else []

    def _both(self, elements: Elements) -> dict[str, list[tuple[str | int, ...]]]:
        return with_twins(elements, self._names.prefix6)

    async def resolve(self, paths: Iterable[Grant], timeout_s: int) -> None:
        """Let these pass for so long from now on, whether or not they were let pass before.

        An element that is there keeps its time when it is added again, so it is taken away first.
        """
        fresh = sorted(set(paths))
        commands: list[Command] = []
        for name, some in _by_version(fresh).items():
            commands += self._command("add", name, some)
            commands += self._command("delete", name, some)
            commands += elements_command("add", self._names.table, name, some, timeout_s=timeout_s)
        async with self._changing:
            await _apply(commands)
            for path in fresh:
                self._resolved.setdefault(path[0], {})[path] = trio.current_time() + timeout_s

    async def unresolve(self, source: str) -> None:
        """Nothing that was resolved for this address passes any more."""
        async with self._changing:
            commands: list[Command] = []
            for name, gone in _by_version(sorted(self._resolved.get(source, ()))).items():
                commands += self._command("add", name, gone)  # it may be too old to be there
                commands += self._command("delete", name, gone)
            await _apply(commands)
            self._resolved.pop(source, None)

    def resolved(self, source: str) -> int:
        """How much that was resolved for this address passes."""
        found, now_s = self._resolved.get(source, {}), trio.current_time()
        for path in [path for path, until_s in found.items() if until_s < now_s]:
            del found[path]
        return len(found)

    def has(self, name: str, element: tuple[str | int, ...]) -> bool:
        return element in self._have[name]

    def _command(self, verb: str, name: str, elements: Iterable[Element]) -> list[Command]:
        return elements_command(verb, self._names.table, name, sorted(elements, key=str))


def _by_version(paths: Iterable[Grant]) -> dict[str, list[Grant]]:
    """Which set each is in."""
    found: dict[str, list[Grant]] = {"resolved": [], "resolved6": []}
    for path in paths:
        found["resolved6" if ":" in path[0] else "resolved"].append(path)
    return found


async def _apply(commands: list[Command]) -> None:
    if not commands:
        return
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise PlatformError("unsupported", "nft is missing", hint="install the package nftables")
    done = await trio.run_process(
        [program, "-j", "-f", "-"],
        stdin=json.dumps({"nftables": commands}).encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"nft: {lines[0] if lines else 'failed without a word'}")
