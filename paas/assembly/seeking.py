"""Where the others are, asked of those that can be reached: while no leader is heard.

Of two hubs the one with the smaller name dials.  A node that joins knows who was there then, and
one that comes back knows who was there when it went.  If a node that came since leads by now, it
must not dial those with smaller names, and those do not know of it; whoever they do reach is a
follower, which brings nobody the log.  So they ask: the answer is as good as that follower's log.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from paas.assembly.address_book import AddressBook
from paas.base.errors import PlatformError
from paas.hub.routes import Links
from paas.node.messages import ADDRESSES, Addresses, AskAddresses
from paas.rpc.dispatch import Context, Dispatcher

SEEK_S = 1.0
"""Between two rounds of asking, while no leader is heard."""

ANSWER_S = 1.0
"""How long each is waited for."""


class Seeker:
    """See the module's text.  `staleness`: for how long no leader was heard; None: it is usual."""

    def __init__(
        self, book: AddressBook, links: Links, staleness: Callable[[], float | None]
    ) -> None:
        self._book = book
        self._links = links
        self._staleness = staleness

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(ADDRESSES, self._answer)

    def _answer(self, _params: AskAddresses, _context: Context) -> Addresses:
        return Addresses(addresses=self._book.addresses())

    async def run(self) -> None:
        while True:
            await trio.sleep(SEEK_S)
            if self._staleness() is not None:
                await self._ask()

    async def _ask(self) -> None:
        for name in sorted(self._links.connected()):
            peer = self._links.peer(name)
            if peer is None:
                continue
            try:
                answer = await peer.call(ADDRESSES, AskAddresses(), timeout_s=ANSWER_S)
            except PlatformError:
                continue  # another one, or the next round
            self._book.heard(answer.addresses)
