"""A headless Chromium that a test looks at pages with (io).

    with Browser() as browser:
        page = browser.open("http://127.0.0.1:8080/")
        page.until("document.title === 'Feeds'")
        page.evaluate("document.querySelector('button').click()")
        assert page.complaints == []

It is driven by the DevTools protocol over two pipes (`--remote-debugging-pipe`: JSON messages that
end with a zero byte), so there is no port and no library.  Every page has cookies of its own.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 20.0
OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check"),
    *("--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--mute-audio"),
    *("--hide-scrollbars", "--force-color-profile=srgb", "--disable-features=Translate"),
)

PIPES_AT_3_AND_4 = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Where Chromium looks for its pipes."""

KEYS = {"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, "")}
"""Keys with names; all others are characters: name, code, text."""


class BrowserError(Exception):
    """The browser is not there, or said no."""


class Browser:
    """One process, with a profile that is removed at the end."""

    def __init__(self) -> None:
        program = next((found for p in PROGRAMS if (found := shutil.which(p))), "")
        if not program:
            raise BrowserError(f"none of {', '.join(PROGRAMS)} is installed")
        self._folder = tempfile.mkdtemp(prefix="paas-browser-")
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        words = [program, *OPTIONS, f"--user-data-dir={self._folder}"]
        if os.geteuid() == 0:
            words.append("--no-sandbox")
        self._process = subprocess.Popen(
            [sys.executable, "-c", PIPES_AT_3_AND_4, str(to_read), str(to_write), *words],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}
        self._ended = False
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Page:
        """A page of this size, as for somebody who has never been here."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, str(session["sessionId"]))
        self._listeners[page.session] = page.heard
        for method in ("Page.enable", "Runtime.enable", "Log.enable", "Network.enable"):
            page.ask(method)
        page.resize(width, height)
        page.prefer(dark)
        page.go(url)
        return page

    def ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """One request of the protocol, and its result."""
        identity = next(self._numbers)
        message = {"id": identity, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        with self._changed:
            if not self._changed.wait_for(
                lambda: identity in self._answers or self._ended, PATIENCE_S
            ):
                raise BrowserError(f"{method}: no answer")
            if identity not in self._answers:
                raise BrowserError("the browser has ended")
            answer = self._answers.pop(identity)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def _listen(self) -> None:
        rest = b""
        while data := os.read(self._read, 1 << 20):
            *messages, rest = (rest + data).split(b"\0")
            for text in messages:
                self._take(json.loads(text))
        os.close(self._read)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._changed:
                self._answers[message["id"]] = message
                self._changed.notify_all()
        elif listener := self._listeners.get(message.get("sessionId", "")):
            listener(message["method"], message.get("params", {}))


class Page:
    """One tab.  `complaints` is what its console says that is an error or a warning."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.session = session
        self.complaints: list[str] = []
        self._browser = browser

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.ask(method, self.session, **params)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            text = details.get("exception", {}).get("description") or details["text"]
            self.complaints.append(str(text))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            words = [str(a.get("value", a.get("description", ""))) for a in params["args"]]
            self.complaints.append(" ".join(words))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    def go(self, url: str) -> None:
        """Load another page, and wait until it is there."""
        self.ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, width: int, height: int) -> None:
        """The window; below 600 it is a phone, with fingers."""
        phone = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, dark: bool) -> None:
        """What the person has told the system about colours."""
        value = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript; of a promise, once it is there."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def until(self, expression: str, patience_s: float = PATIENCE_S) -> Any:
        """The expression's value, once it is true; of an element, that it is there."""
        end_s = time.monotonic() + patience_s
        expression = f"(found => found instanceof Node || found)({expression})"
        while True:
            with contextlib.suppress(BrowserError):  # the page is just being replaced
                if value := self.evaluate(expression):
                    return value
            if time.monotonic() > end_s:
                raise BrowserError(f"never true: {expression}; the page says {self.complaints}")
            time.sleep(0.03)

    def click(self, selector: str) -> None:
        """As by a mouse, in the middle of the first element that there is."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.until(f"{found} && {found}.getBoundingClientRect().width > 0")
        place = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})({found})"
        )
        for kind in ("mousePressed", "mouseReleased"):
            point = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", type=kind, **point)

    def press(self, key: str) -> None:
        """A key: one of KEYS, or a character."""
        name, code, text = KEYS.get(key, (key, ord(key.upper()[0]), key))
        common: dict[str, Any] = {"key": name, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, selector: str, text: str) -> None:
        """Into a field, in place of what is there."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"({field}.focus(), {field}.select())")
        self.ask("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """What is to be seen, as PNG."""
        data = self.ask("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
