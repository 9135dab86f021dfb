"""Static content: which file is meant, what of it; nothing above the folder can be named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.gateway.files import rules
from paas.gateway.messages import Route
from paas.testing.edge_world import gateway

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@settings(deadline=None)
@given(st.text("/.%2eEfFcC5\\ab\0 ", max_size=30))
def test_no_address_names_anything_above_the_folder(text: str) -> None:
    names = rules.segments("/" + text)
    for name in names or ():
        assert name not in ("", ".", "..")
        assert not set(name) & {"/", "\\", "\0"}
        assert not name.startswith(".")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, None),
        ("bytes=0-4", range(5)),
        ("bytes=5-", range(5, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-99", range(10)),
        ("bytes=2-99", range(2, 10)),
        ("bytes=0-1,3-4", None),
        ("bytes=4-2", None),
        ("lines=1-2", None),
        ("bytes=a-b", None),
    ],
)
def test_ranges(said: str | None, found: range | None) -> None:
    assert rules.byte_range(said, None, '"t"', 10) == found
    assert rules.byte_range(said, '"other"', '"t"', 10) is None


@pytest.mark.parametrize("said", ["bytes=10-", "bytes=-0", "bytes=99-100"])
def test_ranges_that_are_not_there(said: str) -> None:
    with pytest.raises(ValueError, match="no such range"):
        rules.byte_range(said, None, '"t"', 10)


def test_conditions() -> None:
    assert rules.unchanged('"t"', None, '"t"', 0)
    assert rules.unchanged('W/"t", "u"', None, '"t"', 0)
    assert rules.unchanged("*", None, '"t"', 0)
    assert not rules.unchanged('"u"', DATE, '"t"', 0)
    assert rules.unchanged(None, DATE, '"t"', 1_700_000_000)
    assert not rules.unchanged(None, DATE, '"t"', 1_900_000_000)
    assert not rules.unchanged(None, "yesterday", '"t"', 0)


async def test_files_of_a_folder(tmp_path: Path) -> None:
    site = tmp_path / "static" / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_text("<h1>hello</h1>")
    (site / "sub" / "a b.css").write_text("body {}")
    (site / ".hidden").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    (site / "link").symlink_to(tmp_path / "secret")
    (site / "linked").symlink_to(tmp_path)
    os.mkfifo(site / "pipe")
    big = os.urandom(1_000_000)
    (site / "big.bin").write_bytes(big)
    route = Route(name="s", kind="static", path="/s", strip_prefix=True, directory="site")
    async with gateway(routes=[route], static=str(tmp_path / "static")) as world:
        answer = await world.get("/s/")
        assert (answer.status, answer.body) == (200, b"<h1>hello</h1>")
        assert answer.header("content-type") == "text/html; charset=utf-8"
        assert answer.header("x-content-type-options") == "nosniff"
        tag = answer.header("etag")
        assert (await world.get("/s/", f"if-none-match: {tag}\r\n")).status == 304
        assert (await world.get("/s/sub/a%20b.css")).body == b"body {}"
        assert (await world.get("/s/big.bin")).body == big
        part = await world.get("/s/big.bin", "range: bytes=500000-\r\n")
        assert (part.status, part.body) == (206, big[500_000:])
        assert part.header("content-range") == "bytes 500000-999999/1000000"
        assert (await world.get("/s/big.bin", "range: bytes=1000000-\r\n")).status == 416
        head = await world.ask("HEAD /s/big.bin HTTP/1.1\r\nhost: x\r\n\r\n", "HEAD")
        assert (head.header("content-length"), head.body) == ("1000000", b"")
        for path in (
            *("/s/link", "/s/linked/secret", "/s/.hidden", "/s/sub", "/s/nothing", "/s/pipe"),
            *(
                "/s/..%2fsecret",
                "/s/%2e%2e%2fsecret",
                "/s//etc/passwd",
                "/s/sub/",
                "/s/..%5csecret",
            ),
        ):
            assert (await world.get(path)).status in (400, 404), path
        put = await world.ask("PUT /s/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert (put.status, put.header("allow")) == (405, "GET, HEAD")
