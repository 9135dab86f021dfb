"""Pieces of a bundle that were true once: sent again, in another's place, or after the last one."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.bundle import messages
from paas.bundle.placement import ranked
from paas.controller.bundles import PIECE_BYTES_MAX


def replayed(first: list[Any]) -> Any:
    """An answer like the first one, whatever is asked."""

    def answer(piece: Any) -> Any:
        first.append(piece)
        return first[0]

    return answer


async def test_a_piece_that_is_sent_again_in_the_place_of_the_next_is_a_lie(
    cluster: Any, content: bytes
) -> None:
    one, two, three = [await cluster.add(name) for name in ("n1", "n2", "n3")]
    digest = two.put(content)
    three.put(content)
    liar, honest = ranked(digest, ["n2", "n3"])
    seen: list[Any] = []
    cluster.intercept(liar, "bundle.fetch", replayed(seen))
    await one.bundles.ensure(digest)
    assert len(seen) >= 2
    assert one.store.get(digest) == content
    assert [liar in trouble for trouble in one.troubles] == [True]
    assert f"{honest}:fetch" in one.asked


async def test_pieces_of_another_bundle_are_a_lie(cluster: Any, content: bytes) -> None:
    one, two = [await cluster.add(name) for name in ("n1", "n2")]
    digest = two.put(content)
    another = bytes(reversed(content))
    given = 0

    def of_another(piece: Any) -> Any:
        nonlocal given
        data = another[given : given + len(piece.data)]
        given += len(data)
        return messages.Piece(data=data, size=piece.size)

    cluster.intercept("n2", "bundle.fetch", of_another)
    with pytest.raises(PlatformError) as caught:
        await one.bundles.ensure(digest)
    assert caught.value.code == "not-available"
    assert given == len(content)  # all of it came, and was not believed
    assert not one.store.has(digest)
    assert len(one.troubles) == 1


async def test_an_uploaded_piece_is_taken_once_and_at_its_place_only(
    cluster: Any, content: bytes
) -> None:
    one = await cluster.add("n1")
    digest = cluster.know(content)
    context = one.context()
    begin = messages.Begin(digest=digest, size=len(content))
    upload = one.bundles._begin(begin, context).upload
    first = messages.Append(upload=upload, offset=0, data=content[:1_000])
    too_large = messages.Append(upload=upload, offset=1_000, data=bytes(PIECE_BYTES_MAX + 1))
    one.bundles._append(first, context)
    for wrong, field in ((first, "offset"), (too_large, "data")):
        with pytest.raises(PlatformError) as caught:
            one.bundles._append(wrong, context)
        assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)
    rest = messages.Append(upload=upload, offset=1_000, data=content[1_000:2_000])
    one.bundles._append(rest, context)  # the upload goes on
