"""Documents of strangers: all forms that there are, and hostile ones."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NOW_S = 1_790_000_000.0
RSS = b"<rss version='2.0'><channel><title>t</title>%s</channel></rss>"


@pytest.fixture(scope="module")
def indexer(part: Any) -> Any:
    return part("indexer")


def parse(indexer: Any, document: bytes, kind: str = "") -> dict[str, Any]:
    question = {"url": "http://a.example/feed", "type": kind, "now_s": NOW_S}
    found: dict[str, Any] = indexer.worker.parse(question, document)
    return found


def names_in(nodes: list[Any]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if not isinstance(node, str):
            found |= {node[0]} | names_in(node[2])
    return found


def test_the_corpus_is_read(indexer: Any, documents: dict[str, bytes]) -> None:
    outcome: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    for document in documents.values():
        found = parse(indexer, document)
        outcome[found.get("error", "read")] += 1
        formats[found.get("format", "")] += 1
        for item in found.get("items", []):
            assert item["key"]
            assert item["title"]
            assert names_in(item["content"]) <= indexer.sanitise.ALLOWED
            assert item["link"] == "" or item["link"].startswith(("http://", "https://"))
            assert 0 <= item["date"] <= NOW_S + 86_400
    assert outcome["read"] > 650
    wanted = {"rss090", "rss091n", "rss091u", "rss092", "rss093", "rss094", "rss10", "rss20"}
    assert wanted | {"atom03", "atom10", "cdf"} <= set(formats) | {"cdf", "rss"}


ITEM = b"<item><title>x</title><description>%s</description></item>"

SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href='JaVaScRiPt:alert(1)'>x</a>",
    "<a href='&#106;avascript:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='vbscript:x'>x</a>",
    "<a href='//evil.example/x' onclick=alert(1)>x</a>",
    "<iframe src=http://evil.example></iframe>",
    "<object data=x></object><embed src=x>",
    "<style>@import 'http://evil.example/x'</style>",
    "<p style='background:url(http://evil.example/x)'>x</p>",
    "<form action=http://evil.example><input name=x></form>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example>",
    "<link rel=stylesheet href=http://evil.example>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<textarea><img src=x onerror=alert(1)></textarea>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<<script>alert(1)//<</script>",
    "<a href='http://user:pass@evil.example'>x</a>",
    "<p id=x class=y data-z=w>x</p>",
    "<!--[if IE]><script>alert(1)</script><![endif]-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<a href='http://ok.example/\u202egpj.exe'>x</a>",
    "<b" * 2000,
    "<b>" * 5000,
    "<p " + "a=b " * 5000 + ">",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<xmp><script>alert(1)</script></xmp>",
    "<plaintext><script>alert(1)</script>",
]


@pytest.mark.parametrize("markup", SCRIPTS)
def test_no_script_comes_through(indexer: Any, markup: str) -> None:
    nodes = indexer.sanitise.tree(markup)
    assert names_in(nodes) <= indexer.sanitise.ALLOWED
    check_attributes(nodes)
    escaped = markup.replace("&", "&amp;").replace("<", "&lt;").encode()
    found = parse(indexer, RSS % (ITEM % escaped))
    for item in found.get("items", []):
        check_attributes(item["content"])


def check_attributes(nodes: list[Any]) -> None:
    for node in nodes:
        if isinstance(node, str):
            continue
        name, attributes, children = node
        assert set(attributes) <= ({"href"} if name == "a" else set())
        assert attributes.get("href", "http://").startswith(("http://", "https://"))
        check_attributes(children)


def depth_of(nodes: list[Any]) -> int:
    return 1 + max((depth_of(n[2]) for n in nodes if not isinstance(n, str)), default=0)


@settings(max_examples=200, deadline=None)
@given(markup=st.text(alphabet="<>/ab p=\"'&;#x0scriptonhref:!-[]\n", max_size=200))
def test_any_markup_gives_a_small_safe_tree(part: Any, markup: str) -> None:
    sanitise = part("indexer").sanitise
    nodes = sanitise.tree(markup)
    assert names_in(nodes) <= sanitise.ALLOWED
    check_attributes(nodes)
    assert depth_of(nodes) <= sanitise.DEPTH_MAX + 2
    json.dumps(nodes)


def test_what_people_write_stays_readable(indexer: Any) -> None:
    markup = "<h1>A</h1><p>one <b>two</b><p>three<ul><li>x<li>y</ul><a href='http://b/'>z</a><br>"
    nodes = indexer.sanitise.tree(markup)
    assert nodes[0] == ["h3", {}, ["A"]]
    assert nodes[1] == ["p", {}, ["one ", ["b", {}, ["two"]]]]
    assert indexer.sanitise.text_of(nodes) == "A one two three x y z"


def bomb(body: bytes, head: bytes = b"") -> bytes:
    return b"<?xml version='1.0'?>" + head + b"<rss version='2.0'><channel><title>" + body


LAUGHS = b"<!DOCTYPE x [<!ENTITY a 'ha'>" + b"".join(
    b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
)
HOSTILE = {
    "billion laughs": bomb(b"&j;</title></channel></rss>", LAUGHS + b"]>"),
    "quadratic": bomb(b"&a;" * 50_000, b"<!DOCTYPE x [<!ENTITY a '" + b"x" * 50_000 + b"'>]>"),
    "external": bomb(b"&x;", b"<!DOCTYPE x [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"),
    "parameter": bomb(b"x", b"<!DOCTYPE x [<!ENTITY % p SYSTEM 'http://evil.example/'> %p;]>"),
    "in utf-16": (bomb(b"&a;", b"<!DOCTYPE x [<!ENTITY a 'ha'>]>")).decode().encode("utf-16"),
    "in utf-16 without a mark": bomb(b"&a;", b"<!DOCTYPE x [<!ENTITY a 'ha'>]>")
    .decode()
    .encode("utf-16-be"),
    "in utf-32": bomb(b"&a;", b"<!DOCTYPE x [<!ENTITY a 'ha'>]>").decode().encode("utf-32"),
    "deep": RSS % (b"<a>" * 50_000 + b"</a>" * 50_000),
    "many elements": RSS % (b"<a/>" * 200_000),
    "many attributes": RSS % (b"<a " + b"".join(b'a%d="x" ' % n for n in range(5_000)) + b"/>"),
    "too large": b"<rss>" + b" " * (4 << 20),
    "empty": b"",
    "blank": b" \n\t ",
    "no feed": b"<html><body>hello</body></html>",
    "no mark-up": b"hello",
    "json": b'{"version": "https://jsonfeed.org/version/1"}',
    "binary": bytes(range(256)) * 100,
    "unending tag": b"<rss version='2.0'><channel><" + b"a" * 1_000_000,
    "unending comment": b"<rss version='2.0'><!--" + b"-" * 1_000_000,
    "unending quote": b"<rss version='" + b"<" * 500_000,
    "angle brackets": b"<rss>" + b"<" * 1_000_000,
    "half tags": b"<rss version='2.0'><channel>" + b"<a b='" * 100_000,
    "entities of html": RSS % (ITEM % (b"&nbsp;" * 100_000)),
    "a long title": RSS % (b"<item><title>" + b"x" * 2_000_000 + b"</title></item>"),
    "many items": RSS % (b"<item><title>x</title></item>" * 15_000),
    "charset that is none": b"<?xml version='1.0' encoding='no-such'?>" + RSS % b"",
    "ascii zero": RSS % b"<item><title>\x00</title></item>",
}


@pytest.fixture(scope="module")
def workers(indexer: Any) -> Iterator[Any]:
    made = indexer.workers.Workers(1)
    yield made
    made._idle.get().end()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_cost_little(workers: Any, name: str) -> None:
    question = {"url": "http://a.example/", "type": "text/xml", "now_s": NOW_S}
    found = workers.parse(question, HOSTILE[name])
    assert "error" in found or len(found["items"]) <= 500
    text = json.dumps(found)
    assert "hahaha" not in text
    assert "root:" not in text
    good = workers.parse(question, RSS % (ITEM % b"fine"))
    assert good["items"][0]["summary"] == "fine"


@pytest.mark.parametrize(
    "name", ["billion laughs", "quadratic", "external", "parameter", "in utf-16", "in utf-32"]
)
def test_declared_entities_are_refused_before_a_parser_sees_them(indexer: Any, name: str) -> None:
    with pytest.raises(indexer.documents.DocumentError, match="entities"):
        indexer.documents.check(HOSTILE[name])


def test_a_parser_that_hangs_is_replaced(indexer: Any) -> None:
    workers = indexer.workers.Workers(1)
    worker = workers._idle.get()
    os.kill(worker._process.pid, signal.SIGSTOP)
    workers._idle.put(worker)
    found = workers.parse({"url": "http://a/", "now_s": NOW_S}, RSS % b"")
    assert found == {"error": "the document takes too long to parse"}
    again = workers.parse({"url": "http://a/", "now_s": NOW_S}, RSS % b"")
    assert again["title"] == "t"
    assert workers.replaced == 1
    workers._idle.get().end()


def test_a_parser_that_dies_is_replaced(indexer: Any) -> None:
    workers = indexer.workers.Workers(1)
    worker = workers._idle.get()
    worker._process.kill()
    workers._idle.put(worker)
    assert "died" in workers.parse({"url": "http://a/", "now_s": NOW_S}, RSS % b"")["error"]
    assert workers.parse({"url": "http://a/", "now_s": NOW_S}, RSS % b"")["title"] == "t"
    workers._idle.get().end()


def test_items_have_keys_of_their_own(indexer: Any) -> None:
    items = (
        b"<item><guid isPermaLink='false'>1</guid><title>a</title></item>"
        b"<item><link>http://a/2</link><title>b</title></item>"
        b"<item><title>c</title></item><item><title>c</title></item><item><link/></item>"
    )
    found = parse(indexer, RSS % items)["items"]
    assert [i["title"] for i in found] == ["a", "b", "c"]
    assert found[0]["key"] == "1"
    assert found[1]["key"] == "http://a/2"
    assert found[2]["key"].startswith("sha256:")


def test_dates_that_make_no_sense_are_none(indexer: Any) -> None:
    items = b"".join(
        b"<item><title>%d</title><pubDate>%s</pubDate></item>" % (n, date)
        for n, date in enumerate(
            [b"Sun, 06 Sep 2009 16:20:00 +0200", b"Sun, 06 Sep 2099 16:20:00 GMT", b"yesterday"]
        )
    )
    assert [i["date"] for i in parse(indexer, RSS % items)["items"]] == [1_252_246_800.0, 0.0, 0.0]


def test_relative_addresses_become_whole_ones(indexer: Any) -> None:
    found = parse(indexer, RSS % b"<item><title>a</title><link>/x</link></item>")
    assert found["items"][0]["link"] == "http://a.example/x"


def test_plain_text_is_no_markup(indexer: Any) -> None:
    atom = (
        b"<feed xmlns='http://www.w3.org/2005/Atom'><entry><id>1</id><title>t</title>"
        b"<summary type='text'>1 &lt; 2 &amp; &lt;b>c&lt;/b></summary></entry></feed>"
    )
    assert parse(indexer, atom)["items"][0]["summary"] == "1 < 2 & <b>c</b>"


def test_of_many_items_the_newest_are_taken(indexer: Any) -> None:
    items = b"".join(
        b"<item><title>%d</title><pubDate>Sun, 06 Sep 2009 16:%02d:%02d GMT</pubDate></item>"
        % (n, n // 60, n % 60)
        for n in range(1_000)
    )
    found = parse(indexer, RSS % items)["items"]
    assert [i["title"] for i in found] == [str(n) for n in range(999, 849, -1)]
