"""The guest book's own tests: `paas test examples/guestbook`; no cluster is needed."""

# ruff: noqa: PT009, PT027  (they run without pytest too)

from __future__ import annotations

import unittest

from paas_testing import Harness, HarnessError


class GuestbookTest(unittest.TestCase):
    def setUp(self) -> None:
        self.harness = Harness()
        self.harness.on("hub.signal", {"watchers": 1})
        self.harness.start()
        self.addCleanup(self.harness.close)

    def test_what_is_signed_is_read(self) -> None:
        signed = self.harness.call("sign", {"guest": "Ada", "text": "A fine place"})
        self.assertEqual(signed, {"entries": 1})
        whole = self.harness.begin("read").whole()
        self.assertEqual(whole["outputs"]["entries"][0]["guest"], "Ada")
        self.assertEqual(whole["attachments"][0]["data"], b"Ada: A fine place\n")
        self.assertEqual(self.harness.call("count", object="pages"), {"pages": 1})
        self.assertEqual(self.harness.groups, ["guestbooks"])

    def test_who_writes_nothing_is_told_so(self) -> None:
        with self.assertRaises(HarnessError) as caught:
            self.harness.call("sign", {"guest": "Ada"})
        self.assertEqual(caught.exception.code, "invalid")

    def test_words_come_from_somebody_else(self) -> None:
        pending = self.harness.begin("welcome", {"guest": "Ada"})
        asked = self.harness.expect("hub.call", target="group:words")
        self.assertEqual(asked.params["inputs"], {"for": "Ada"})
        asked.answer({"outputs": {"text": "Hail, Ada"}, "component": "cd" * 20})
        self.assertEqual(pending.result(), {"text": "Hail, Ada"})

    def test_without_them_the_greeting_is_plain(self) -> None:
        pending = self.harness.begin("welcome", {"guest": "Ada"})
        self.harness.expect("hub.call").fail("no-such-target", "nobody")
        self.assertEqual(pending.result(), {"text": "Welcome, Ada"})

    def test_it_waits_for_a_signal(self) -> None:
        pending = self.harness.begin("wait_for", {"book": "other"})
        watch = self.harness.await_watch(signals={"target": "other"})
        self.harness.event(watch, "signal", signal="signed", payload={"guest": "Bob"})
        self.assertEqual(pending.result(), {"guest": "Bob"})

    def test_it_stops_waiting_when_nobody_wants_the_answer(self) -> None:
        pending = self.harness.begin("wait_for", {"book": "other"})
        self.harness.await_watch(signals={"target": "other"})
        pending.cancel()
        with self.assertRaises(HarnessError) as caught:
            pending.result()
        self.assertEqual(caught.exception.code, "cancelled")

    def test_it_ends_when_it_is_asked_to(self) -> None:
        self.assertTrue(self.harness.terminate()["accepted"])
        self.assertEqual(self.harness.wait(), 0)


if __name__ == "__main__":
    unittest.main()
