"""The page, as a person sees it: headless Chromium, real files, real connections."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.testing.browser import Browser, Page

DESK = "http://live.origin/live/desk"
FULL = "reader-0.origin/feeds/reader/full.atom"


NAMELESS = """
[...document.querySelectorAll("button, a[href], input, select, textarea")].filter(e =>
  e.offsetParent && !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)
).map(e => e.outerHTML)
"""
SMALL = """
[...document.querySelectorAll("button, select, input:not([type=checkbox])")].filter(e =>
  e.offsetParent && !e.classList.contains("link") && e.getBoundingClientRect().height < 32
).map(e => e.outerHTML)
"""
CONTRAST = """
(() => {
  const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = rgb => { const [r, g, b] = rgb.match(/[\\d.]+/g).map(Number).map(channel);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return "rgb(255, 255, 255)"; };
  return [...document.querySelectorAll("h2, p, span, button, label, a")].filter(e =>
    e.offsetParent && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
    && !e.closest(".fresh")).map(e => {
      const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 120)];
    }).filter(([ratio]) => ratio < 4.5);
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as made:
        yield made


@pytest.fixture(scope="module")
def enter(stage: Any, browser: Browser) -> Any:
    """A page on which somebody has said a name."""
    address = f"http://{stage.of('frontend')[0].address}/"

    def run(name: str, **more: Any) -> Page:
        page = browser.open(address, **more)
        page.until("document.querySelector('#welcome').open")
        page.type("#name", name)
        page.press("Enter")
        page.until("!document.querySelector('#welcome').open")
        page.until("document.querySelector('#state-text').textContent === 'live'")
        return page

    return run


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("FEEDS_SCREENSHOTS"):
        time.sleep(0.4)
        page.screenshot(Path(folder) / f"feeds-{name}.png")


def titles(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('.item .title')].map(e => e.textContent)")


def test_follow_read_search(enter: Any, publish: Any) -> None:
    page = enter("ada")
    page.until("document.querySelectorAll('#suggestions .card').length >= 10")
    page.type("#url", "no address at all/")
    page.press("Enter")
    page.until("!document.querySelector('#subscribe-error').hidden")
    page.type("#url", FULL)
    page.press("Enter")
    page.until("document.querySelector('#mine').textContent.includes('Example Feed')")
    page.click(".nav [data-view=timeline]")
    page.until("document.querySelectorAll('.item').length === 2")
    assert "Atom-Powered Robots Run Amok" in titles(page)
    assert page.evaluate("document.querySelector('#unread').textContent") == "2"

    page.click(".item .open")
    page.until("document.querySelector('.item .body')")
    page.until("document.querySelector('#unread').textContent === '1'")
    page.press("j")
    page.press("m")
    page.until("document.querySelector('#unread').hidden")
    page.press("m")
    page.until("document.querySelector('#unread').textContent === '1'")
    page.press("/")
    page.type("#query", "nothing has this")
    page.until("document.querySelector('#empty').textContent.includes('Nothing has')")
    page.type("#query", "robots")
    page.until("document.querySelectorAll('.item').length === 2")
    page.press("Escape")
    page.press("1")
    page.click("#only-unread")
    page.until("document.querySelectorAll('.item').length === 1")
    page.click("#all-read")
    page.until("document.querySelector('#empty').textContent === 'All read.'")
    assert page.complaints[1:] == []
    assert "400" in page.complaints[0]  # the address that was none


def test_items_appear_by_themselves_in_all_tabs(enter: Any, publish: Any, person: Any) -> None:
    person("bob").follow(DESK)
    one, two = enter("bob"), enter("bob", width=360, height=740)
    one.until("document.querySelector('#mine li')")
    for page in (one, two):
        page.click(".nav [data-view=timeline]")
    for number in range(100):
        publish(f"Live {number} <img src=x onerror=alert(1)>")
        time.sleep(0.2)
        if len(titles(one)) > 1:
            break
    one.until("document.querySelector('.item').className.includes('fresh')")
    two.until("document.querySelector('.item')")
    assert all(title.startswith("Live") and "<" not in title for title in titles(one))
    one.click(".item .tick")
    seq = one.evaluate("document.querySelector('.item:not(.unread)').id")
    two.until(f"!document.querySelector('#{seq}').classList.contains('unread')")
    two.evaluate("scrollTo(0, 400)")
    assert one.complaints == two.complaints == []


def test_a_connection_that_is_lost_comes_back_with_what_was_missed(
    enter: Any, stage: Any, publish: Any, person: Any, eventually: Any
) -> None:
    reader = person("eve")
    source = reader.follow(DESK)
    eventually(lambda: reader.source(source)["kind"] == "stream")
    page = enter("eve")
    page.click(".nav [data-view=timeline]")
    stage.of("frontend")[0].kill()
    page.until("document.querySelector('#state-text').textContent !== 'live'")
    publish("While you were away")
    page.until("document.querySelector('#state-text').textContent === 'live'")
    page.until("document.querySelector('#items').textContent.includes('While you were away')")
    other = [c for c in page.complaints if "WebSocket" not in c and "ERR_" not in c]
    assert other == []


def test_what_strangers_publish_runs_nothing(enter: Any, stage: Any, person: Any) -> None:
    reader = person("mallory")
    documents = stage.call("group:feeds.origins", "catalogue", kind="sanitise", limit=40, offset=0)[
        "feeds"
    ]
    for found in documents:
        reader.follow(found["url"])
    page = enter("mallory")
    page.click(".nav [data-view=timeline]")
    page.until("document.querySelectorAll('.item').length >= 20")
    page.evaluate("document.querySelectorAll('.item .open').forEach(e => e.click())")
    page.until("document.querySelectorAll('.item .body').length >= 20")
    bad = "script, img, iframe, object, embed, form, style, svg, [onclick], [onerror], [style]"
    assert page.evaluate(f"document.querySelectorAll('#items :is({bad})').length") == 0
    assert page.evaluate(
        "[...document.querySelectorAll('#items a')].every(a => /^https?:/.test(a.href))"
    )
    assert page.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_it_can_be_read_and_used_at_every_size(enter: Any, person: Any, dark: bool) -> None:
    reader = person("walker")
    for url in (FULL, "quakes.origin/quakes/california.atom", "x.origin/faults/gone", DESK):
        reader.follow(url)
    page = enter("walker", dark=dark)
    for width in (1180, 360):
        page.resize(width, 740)
        for view in ("timeline", "sources", "discover", "account"):
            look(page, view, width)
            picture(page, f"{view}-{width}{'-dark' if dark else ''}")
    assert page.complaints == []


def look(page: Page, view: str, width: int) -> None:
    """Nothing is too wide, without a name, too small for a finger, or too pale."""
    page.click(f".nav [data-view={view}]")
    page.until(f"!document.querySelector('#view-{view}').hidden")
    if view == "timeline":
        page.until("document.querySelectorAll('.item').length > 5")
        page.click(".item:nth-child(2) .open")
    if view == "sources":
        page.until("document.querySelector('.health.gone') && document.querySelector('.health.ok')")
    time.sleep(0.2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(SMALL) == []
    assert page.evaluate(CONTRAST) == []
