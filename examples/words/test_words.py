"""Tests of a Node.js component: `paas test examples/words`; the language does not matter."""

# ruff: noqa: PT009, PT027  (they run without pytest too)

from __future__ import annotations

import unittest

from paas_testing import Harness, HarnessError


class WordsTest(unittest.TestCase):
    def test_greetings_come_in_turn_and_can_be_learned(self) -> None:
        with Harness() as harness:
            self.assertEqual(harness.groups, ["words"])
            self.assertEqual(harness.call("greeting", {"for": "Ada"}), {"text": "Hello, Ada!"})
            self.assertEqual(harness.call("learn", {"greeting": "Ave"}), {"known": 4})
            texts = [harness.call("greeting", {"for": "Bob"})["text"] for _ in range(3)]
            self.assertEqual(texts, ["Hail, Bob!", "Welcome, Bob!", "Ave, Bob!"])
            self.assertEqual(harness.logs[-1]["message"], "learned Ave")
            with self.assertRaises(HarnessError) as caught:
                harness.call("greeting")
            self.assertEqual(caught.exception.code, "invalid")


if __name__ == "__main__":
    unittest.main()
