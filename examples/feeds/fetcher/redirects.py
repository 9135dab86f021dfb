"""Where redirects lead, and which of them are worth remembering.  Pure.

    asked ──301──> a ──308──> b ──302──> c     remembered: b (all permanent ones before the first
                                               temporary one); fetched: c

Bounded: HOPS_MAX, and no address twice, so that a chain that never ends is a failure of the source
(RFC 9110 §15.4; 300 and 304 to 306 lead nowhere).
"""

from __future__ import annotations

from addresses import Address, AddressError, redirected

PERMANENT = (301, 308)
TEMPORARY = (302, 303, 307)
HOPS_MAX = 5


class Trail:
    """One fetch on its way."""

    def __init__(self, start: Address) -> None:
        self.at = start
        self.remembered = start
        self._seen = {start}
        self._only_permanent = True

    def follow(self, status: int, location: str) -> Address:
        """The next address; raises AddressError when there is none to go to."""
        if not location:
            raise AddressError(f"a redirect ({status}) that does not say where")
        target = redirected(self.at, location)
        if target in self._seen:
            raise AddressError("redirects in a circle")
        if len(self._seen) > HOPS_MAX:
            raise AddressError(f"more than {HOPS_MAX} redirects")
        self._seen.add(target)
        self._only_permanent = self._only_permanent and status in PERMANENT
        if self._only_permanent:
            self.remembered = target
        self.at = target
        return target


def is_redirect(status: int) -> bool:
    return status in PERMANENT or status in TEMPORARY
