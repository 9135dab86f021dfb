"""What somebody types into the search field, as a question that FTS5 understands.  Pure.

    robots "run amok" -moon news*   ->   "robots" AND "run amok" AND "news"* NOT "moon"

Everything is quoted, so no word of a person is an operator, and there is no text that is an error.
The last word is searched for as a beginning: results come while one types.
"""

from __future__ import annotations

import re

WORDS_MAX = 12
CHARS_MAX = 200

_WORD = re.compile(r'(-?)"([^"]*)"?|(-?)([^\s"]+)')


def question(text: str) -> str:
    """For `MATCH`; empty when there is nothing to look for."""
    wanted: list[str] = []
    unwanted: list[str] = []
    found = list(_WORD.finditer(text[:CHARS_MAX]))[:WORDS_MAX]
    for index, word in enumerate(found):
        phrase = word[2] is not None
        said = word[2] if phrase else word[4]
        minus = word[1] if phrase else word[3]
        letters = " ".join(re.findall(r"\w+", said, re.UNICODE))
        if not letters:
            continue
        begins = not phrase and (said.endswith("*") or index == len(found) - 1)
        quoted = f'"{letters}"' + ("*" if begins else "")
        (unwanted if minus else wanted).append(quoted)
    if not wanted:
        return ""
    return " AND ".join(wanted) + "".join(f" NOT {word}" for word in unwanted)
