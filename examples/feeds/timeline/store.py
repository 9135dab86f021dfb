"""What the application keeps, behind one small interface.

Whoever wants another data base writes these methods for it, and changes one line of `main`.  Plain
values in and out; times are Unix milliseconds.  Every method is one transaction: what it returned
is on the disk, what it did not return may be either way, and asking again does no harm.

| part | methods |
|---|---|
| polls | `turn`, `release`, `poke` |
| items | `add`, `timeline`, `search`, `after`, `last_seq` |
| people | `account`, `set_account`, `subscribe`, `unsubscribe`, `set_alert`, … |
| marks | `subscriptions` (with what is unread), `mark` |
| alerts | `take_alerts`, `end_alerts` |
| all | `statistics`, `close` |
"""

from __future__ import annotations

from typing import Any, Protocol

Row = dict[str, Any]


class StoreError(ValueError):
    """What was asked for makes no sense; the text names the field."""

    def __init__(self, field: str, text: str, code: str = "invalid") -> None:
        super().__init__(f"{field}: {text}")
        self.field = field
        self.code = code


class Store(Protocol):
    """One small interface; see the table above."""

    def turn(self, owner: str, results: list[Row], limit: int, lease_ms: int, now_ms: int) -> Row:
        """Keep what polls have brought, and take sources that are due: `{"due": […], "next_ms"}`.

        A source that was taken is not given to anybody else before its lease is over.
        """

    def release(self, owner: str, now_ms: int) -> int:
        """A scheduler has ended: what it had taken is due again."""

    def poke(self, source: int, now_ms: int) -> bool:
        """Let a source be due now, unless it is being polled."""

    def add(self, source: int, feed: Row, now_ms: int) -> Row:
        """Keep the items that are new: `{"items": […], "backlog": bool}`, oldest first.

        `added` says how many; `before` and `seq` are the last numbers before and after.
        """

    def timeline(self, user: str, wanted: Row) -> Row:
        """Items of the sources that somebody follows, newest first: `{"items", "more"}`."""

    def search(self, user: str, text: str, everywhere: bool, limit: int) -> list[Row]:
        """Items that have all these words, best first."""

    def after(self, user: str, seq: int, limit: int) -> Row:
        """Items that came after number `seq`, oldest first; `gap` when there were more."""

    def last_seq(self) -> int:
        """The number of the last item that was found."""

    def account(self, user: str, now_ms: int) -> Row:
        """Who that is; made at first use."""

    def set_account(self, user: str, email: str) -> Row:
        """Where alerts go to."""

    def subscribe(self, user: str, url: str, alert: str, now_ms: int) -> Row:
        """Follow a source; the same address is one source for all."""

    def unsubscribe(self, user: str, source: int) -> bool:
        """Do not follow it any more."""

    def set_alert(self, user: str, source: int, alert: str) -> bool:
        """`none`, `push` or `mail`."""

    def subscriptions(self, user: str) -> list[Row]:
        """What somebody follows, with health, next poll, and what is unread."""

    def mark(self, user: str, wanted: Row) -> Row:
        """Read or unread: single items, or all of a source, or all."""

    def take_alerts(self, limit: int, lease_ms: int, now_ms: int) -> list[Row]:
        """Alerts to send; who does not end them in time lets somebody else send them."""

    def end_alerts(self, done: list[int], failed: list[Row], now_ms: int) -> None:
        """Which have been sent, and which have to wait."""

    def statistics(self) -> Row:
        """How much there is of everything."""

    def close(self) -> None:
        """Nothing is asked after this."""
