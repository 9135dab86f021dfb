"""What a certificate allows its holder to ask for: words, their text form, the check.

A capability is `verb:object`: `spawn:hub` means "may have agents of the sub-system hub started".
The set is small and closed under nothing: there are no wildcards, and a word that a receiver does
not know grants nothing.  In a certificate the words stand in a private extension as one text,
sorted and separated by single spaces, so that a set has exactly one form.

Source: platform document §4.9.4 (capabilities), §4.9.6 ("Signing": which sub-systems an agent may
spawn).  The words beyond `spawn` come with the methods that check them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from paas.base.errors import PlatformError, invalid
from paas.identity import names
from paas.identity.limits import CAPABILITIES_MAX, CAPABILITY_CHARACTERS_MAX

_word = re.compile(r"[a-z][a-z-]*:[a-z0-9][a-z0-9.-]*")


def spawn(subsystem: str) -> str:
    """The capability to have agents of a sub-system started."""
    return f"spawn:{subsystem}"


OF_ROLE: Mapping[str, frozenset[str]] = {
    names.NODE: frozenset(
        spawn(role)
        for role in (
            names.NODE,
            names.HUB,
            names.CONTAINERS,
            names.CERTIFICATES,
            names.CREDENTIALS,
        )
    ),
    names.HUB: frozenset(),
    names.CONTAINERS: frozenset(),
    names.CERTIFICATES: frozenset(),
    names.CREDENTIALS: frozenset(),
    names.API: frozenset(),
    names.OPERATOR: frozenset(),
}
"""Every role that can have a certificate, and the capabilities that come with it."""


def to_text(words: Iterable[str]) -> str:
    """The one text form of a set of capabilities; raises `invalid` on what is not a capability."""
    ordered = sorted(set(words))
    if len(ordered) > CAPABILITIES_MAX:
        raise invalid("capabilities", f"expected at most {CAPABILITIES_MAX} words")
    for word in ordered:
        if len(word) > CAPABILITY_CHARACTERS_MAX or not _word.fullmatch(word):
            raise invalid("capabilities", "expected words of the form verb:object")
    return " ".join(ordered)


def from_text(text: str) -> frozenset[str]:
    """The set that a text states; raises `invalid` unless it is in its one form."""
    words = text.split(" ") if text else []
    if to_text(words) != text:
        raise invalid("capabilities", "expected sorted words with single spaces between them")
    return frozenset(words)


def require(held: AbstractSet[str], word: str) -> None:
    """Raise `denied`, saying which capability was missing."""
    if word not in held:
        raise PlatformError("denied", f"the capability {word} is missing", missing=word)
