"""Leases: until when a node may run its components, and when the others may take it for lost.

    node                              leader
    Holder   sent ──── renew ───────> Grantor.grant     (leadership confirmed after the receipt)
             granted <─── granted ───
             deadline = time of sending + LEASE_S
                                      Grantor.overdue   LEASE_S + MARGIN_S after the last grant, and
                                                        after the leadership began: LoseNode

What is decided here: when to send a renewal, until when the lease runs, whether a renewal may be
granted, and who is overdue.  Sending, confirming, proposing and killing are others' business.

Promise: when a command LoseNode is applied, every lease that its node ever got, or will get for
what it has sent, ended at least FENCE_KILL_S ago.  Why it holds, L being the leader that proposed:

  - A lease that L granted began, on the node's clock, before L noted the grant.
  - A lease that an earlier leader granted was confirmed, after its renewal was received, by a
    majority that did not know of L's term yet.  So the renewal was sent before L was elected; and L
    counts from when it learnt that it leads, at the earliest.
  - A lease that a later leader granted was granted after that leader had applied an entry of its
    own term, and with it every command of earlier terms that will ever be applied.
  - A node that joins, or comes under lease, gives its fence a deadline of one lease, counted from
    before it knew that it was not under lease.  L counts from when it first sees the epoch.
  - From the moment that L decides, it grants that epoch nothing more in its term (`closing`).
    A leader that is paused, or deposed without knowing, proposes for its own term only.

Only the rates of clocks matter (CLOCK_DRIFT_MAX, limits.py), never their settings.  The order of
messages does not matter, nor their loss, delay and repetition.

Source: Gray and Cheriton, "Leases", SOSP 1989, §2; docs/internals/cluster.md, "Leases".
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from paas.node.limits import LEASE_S, MARGIN_S, RENEW_S, RENEW_TIMEOUT_S, RETRY_S

NEVER_S = float("-inf")


class Holder:
    """The node's side.  One for each life of the node's hub: what a former life sent is unknown
    here, and its answers change nothing."""

    def __init__(self) -> None:
        self.deadline_s = NEVER_S
        """The lease runs until then, on this node's clock."""

        self.next_s = NEVER_S
        """When the next renewal is due."""

        self._number = 0
        self._sent: dict[int, float] = {}  # renewals without an answer

    def due(self, now_s: float) -> bool:
        """Is it time to send a renewal?"""
        return now_s >= self.next_s

    def sent(self, now_s: float) -> int:
        """A renewal is about to be sent; the number that it must carry.  Call before sending."""
        self._number += 1
        self._sent[self._number] = now_s
        self._sent = {n: s for n, s in self._sent.items() if now_s - s <= RENEW_TIMEOUT_S}
        self.next_s = now_s + RETRY_S
        return self._number

    def granted(self, number: int, next_s: float = math.inf) -> float | None:
        """The deadline, if this answer moves it; None for one that comes twice or too late.

        `next_s`: when the leader would like the next renewal, if that is not too early or late.
        """
        sent_s = self._sent.pop(number, None)
        if sent_s is None:
            return None
        if number == self._number:
            self.next_s = min(max(next_s, sent_s + RETRY_S), sent_s + RENEW_S)
        if sent_s + LEASE_S <= self.deadline_s:
            return None
        self.deadline_s = sent_s + LEASE_S
        return self.deadline_s

    def refused(self, number: int, now_s: float) -> None:
        """Not granted, or nobody there.  What was granted before stays so."""
        self._sent.pop(number, None)
        if number == self._number:
            self.next_s = now_s + RETRY_S

    def hurry(self) -> None:
        """Another leader, another epoch: a renewal is worth trying now."""
        self.next_s = NEVER_S

    def drop(self) -> None:
        """Give the lease up, and whatever answers are still on their way."""
        self._sent.clear()
        self.deadline_s = self.next_s = NEVER_S

    def valid(self, now_s: float) -> bool:
        return now_s < self.deadline_s


class Grantor:
    """The leader's side; it begins anew with each term."""

    def __init__(self) -> None:
        self._term: int | None = None
        self._led_s = NEVER_S
        self._heard: dict[str, float] = {}  # node -> when its lease was granted last, if only by us
        self._epochs: dict[str, int] = {}  # node -> epoch seen last
        self._closing: dict[str, int] = {}  # node -> epoch that is being declared lost

    def led(self, term: int, now_s: float) -> None:
        """We lead in this term; call as soon as it is known, and as often as one likes."""
        if term == self._term:
            return
        self.stopped()
        self._term, self._led_s = term, now_s

    def stopped(self) -> None:
        """We do not lead any more, or not in the same term."""
        self._term, self._led_s = None, NEVER_S
        self._heard, self._epochs, self._closing = {}, {}, {}

    def grant(self, term: int, node: str, epoch: int, now_s: float) -> bool:
        """May the lease of this life of the node be prolonged?  If so it is noted.

        To be called after leadership in `term` was confirmed, and with an epoch that was read
        from the state after that, without waiting in between.
        """
        self.led(term, now_s)
        if self._closing.get(node) == epoch:
            return False
        self._heard[node] = now_s
        return True

    def overdue(self, now_s: float, nodes: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Whose lease is over, out of the leased nodes and their epochs, in the order given.

        Whoever is named here is granted nothing more in this epoch and this term, and is named
        again until the state says something else.
        """
        if self._term is None:
            return []
        present = dict(nodes)
        for gone in [name for name in self._epochs if name not in present]:
            del self._epochs[gone]
            self._heard.pop(gone, None)
            self._closing.pop(gone, None)
        found = []
        for name, epoch in present.items():
            if self._epochs.get(name) != epoch:
                self._epochs[name] = epoch
                self._heard[name] = now_s
                self._closing.pop(name, None)
            since_s = max(self._led_s, self._heard.get(name, NEVER_S))
            if name in self._closing or now_s - since_s > LEASE_S + MARGIN_S:
                self._closing[name] = epoch
                found.append((name, epoch))
        return found

    def age_s(self, node: str, now_s: float) -> float | None:
        """How long ago the node was granted its lease; None: not by us in this term."""
        heard_s = self._heard.get(node)
        return None if self._term is None or heard_s is None else now_s - heard_s
