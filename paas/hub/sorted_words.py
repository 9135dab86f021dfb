"""Many whole numbers in order, of which some come and go: each change costs the same, however many.

    chunk 0          chunk 1                         chunk n
    [ …, 17 ]        [ 18, …, 512 ]        …         [ …, last ]
       └── lasts = [17, 512, …]: where a number belongs is two bisections

Invariants: every chunk is sorted, has at least one and at most CHUNK_WORDS_MAX numbers, and none is
greater than any of the next one's; `lasts` are the last ones of the chunks.  A number takes eight
bytes.  Numbers may be there more than once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator

CHUNK_WORDS_MAX = 1_024


class SortedWords:
    """See the module's text.  Numbers are 0 to 2^64 - 1."""

    def __init__(self) -> None:
        self._chunks: list[array[int]] = []
        self._lasts: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        for chunk in self._chunks:
            yield from chunk

    def add(self, word: int) -> None:
        self._count += 1
        if not self._chunks:
            self._chunks.append(array("Q", [word]))
            self._lasts.append(word)
            return
        at = min(bisect_left(self._lasts, word), len(self._lasts) - 1)
        chunk = self._chunks[at]
        insort(chunk, word)
        if len(chunk) > CHUNK_WORDS_MAX:
            half = len(chunk) // 2
            self._chunks[at : at + 1] = chunk[:half], chunk[half:]
            self._lasts[at : at + 1] = chunk[half - 1], chunk[-1]
        else:
            self._lasts[at] = chunk[-1]

    def extend(self, words: list[int]) -> None:
        """Add these, that are sorted and none of which is less than any that is there."""
        assert not words or not self._lasts or words[0] >= self._lasts[-1], "not behind the others"
        for at in range(0, len(words), CHUNK_WORDS_MAX):
            chunk = array("Q", words[at : at + CHUNK_WORDS_MAX])
            self._chunks.append(chunk)
            self._lasts.append(chunk[-1])
        self._count += len(words)

    def remove(self, word: int) -> None:
        """One that is there."""
        at = bisect_left(self._lasts, word)
        chunk = self._chunks[at]
        place = bisect_left(chunk, word)
        assert chunk[place] == word, "only what was added is removed"
        del chunk[place]
        self._count -= 1
        if chunk:
            self._lasts[at] = chunk[-1]
        else:
            del self._chunks[at], self._lasts[at]

    def around(self, word: int) -> Iterator[int]:
        """All of them once: the first that is at least `word` and what follows, then the others
        from the first one on.  Nothing may be changed meanwhile.
        """
        chunks = self._chunks
        begin = bisect_left(self._lasts, word)
        if begin == len(chunks):
            yield from self
            return
        place = bisect_left(chunks[begin], word)
        yield from chunks[begin][place:]
        for at in range(begin + 1, len(chunks)):
            yield from chunks[at]
        for at in range(begin):
            yield from chunks[at]
        yield from chunks[begin][:place]
