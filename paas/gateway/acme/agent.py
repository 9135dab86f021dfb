"""Keeps a gateway's certificates: ordered when there are none, renewed before they end.  (io)

    for each set of names:  kept and not due ─> sleep
                            due ─> lease ─> does another gateway have a newer one? ─> take it
                                        └─> order ─> keep, tell

One gateway of a group orders at a time, and asks the others first, so that a group has one
certificate and not one each.  What fails is tried again later (renewal.py); the certificate that
there is stays in force meanwhile.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from paas.base.errors import PlatformError
from paas.fetcher.client import Fetcher
from paas.gateway.acme import documents, limits, renewal
from paas.gateway.acme.client import AcmeClient, Kind, Solvers
from paas.gateway.acme.ports import Alone, Lease, Peers
from paas.gateway.acme.store import Kept, Store, examine
from paas.identity.keys import Malformed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AcmeSettings:
    """`acme` of a gateway's configuration."""

    directory: str
    """URL of the authority's directory; https."""
    names: tuple[tuple[str, ...], ...]
    """The host names of each certificate."""
    folder: str
    """For the account's key: a tmpfs, or a volume."""
    certificates: str
    """Where the gateway reads its certificates."""
    contact: tuple[str, ...] = ()
    """Mail addresses that the authority may warn."""
    challenge: Kind = "http-01"


@dataclass(slots=True)
class _State:
    """Of one certificate; times in seconds since the epoch."""

    names: tuple[str, ...]
    failures: int = 0
    not_before: float = 0.0
    trouble: str = ""


class Acme:
    """See the module's text."""

    def __init__(
        self,
        settings: AcmeSettings,
        fetcher: Fetcher,
        solvers: Solvers,
        *,
        lease: Lease | None = None,
        peers: Peers | None = None,
        changed: Callable[[], object] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`changed` is called when a certificate was put in its place."""
        if len(settings.names) > limits.CERTIFICATES_MAX:
            most = limits.CERTIFICATES_MAX
            raise PlatformError("invalid", f"names: at most {most} certificates", field="names")
        self._settings = settings
        self._fetcher = fetcher
        self._solvers = solvers
        self._lease = lease or Alone()
        self._peers = peers or Alone()
        self._changed = changed
        self._wall = wall
        self._store = Store(Path(settings.folder), Path(settings.certificates))
        self._states = [_State(documents.names(names)) for names in settings.names]
        self._client: AcmeClient | None = None
        self.ordered = 0
        self.taken = 0

    def troubles(self) -> dict[str, str]:
        """First name → why there is no new certificate, for those where that is so."""
        return {state.names[0]: state.trouble for state in self._states if state.trouble}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wait_s = await self.once()
            await trio.sleep(wait_s)

    async def once(self) -> float:
        """Do what is due; seconds until the next look."""
        for state in self._states:
            if await self._is_due(state):
                await self._one(state)
        now = self._wall()
        waits = [await self._due_in(state, now) for state in self._states]
        return min([limits.CHECK_S, *waits])

    def _kept(self, names: Sequence[str]) -> Kept | None:
        return self._store.certificate(tuple(names), self._wall())

    async def _is_due(self, state: _State) -> bool:
        return await self._due_in(state, self._wall()) <= 0

    async def _due_in(self, state: _State, now: float) -> float:
        kept = await trio.to_thread.run_sync(self._kept, state.names)
        due = renewal.due_at(kept.begin_s, kept.end_s, state.names) if kept is not None else now
        return max(due, state.not_before) - now

    async def _one(self, state: _State) -> None:
        try:
            async with self._lease.held() as mine:
                if not mine:
                    state.not_before = self._wall() + limits.LEASE_S
                    return
                kept = await self._of_peers(state.names)
                if kept is None:
                    client = await self._authority()
                    kept = await client.order(state.names, self._settings.challenge, self._solvers)
                    self.ordered += 1
                else:
                    self.taken += 1
                await trio.to_thread.run_sync(self._store.keep, kept)
        except (PlatformError, OSError) as exc:
            self._failed(state, exc)
            return
        state.failures, state.not_before, state.trouble = 0, 0.0, ""
        logger.info("a new certificate for %s", state.names[0])
        self._changed()

    def _failed(self, state: _State, exc: PlatformError | OSError) -> None:
        state.failures += 1
        now = self._wall()
        data = exc.data if isinstance(exc, PlatformError) else {}
        state.not_before = renewal.again_at(now, state.failures, data, random.random())
        state.trouble = str(exc)
        logger.warning(
            "no certificate for %s: %s; again in %.0f s",
            state.names[0],
            exc,
            state.not_before - now,
        )

    async def _of_peers(self, names: tuple[str, ...]) -> Kept | None:
        """What another gateway has, if it serves and is not due itself."""
        pem = await self._peers.certificate(names)
        if pem is None:
            return None
        now = self._wall()
        try:
            kept = examine(pem, names, now)
        except Malformed as exc:
            logger.warning("another gateway offers what does not serve: %s", exc)
            return None
        return kept if renewal.due_at(kept.begin_s, kept.end_s, names) > now else None

    async def _authority(self) -> AcmeClient:
        if self._client is None:
            key = await trio.to_thread.run_sync(self._store.account_key)
            settings = self._settings
            self._client = AcmeClient(
                self._fetcher, settings.directory, key, settings.contact, wall=self._wall
            )
        return self._client
