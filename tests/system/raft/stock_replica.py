"""One replica of the library as it was made: `python stock_replica.py OWN OTHER OTHER JOURNAL`.

Each line on standard input is a word to commit; `ACK word` is answered when the library says that
it was, `READY` when there is a leader, `HAVE word ...` to a line `?`.  Nothing of ours is in it.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from pysyncobj import SyncObj, SyncObjConf, replicated


class Store(SyncObj):
    def __init__(self, own: str, others: list[str], journal: str) -> None:
        conf = SyncObjConf(journalFile=journal, commandsWaitLeader=True, appendEntriesUseBatch=True)
        super().__init__(own, others, conf)
        self.words: list[str] = []

    @replicated
    def put(self, word: str) -> None:
        self.words.append(word)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def announce(store: Store) -> None:
    while not store.isReady():
        time.sleep(0.01)
    say("READY")


def main(own: str, first: str, second: str, journal: str) -> None:
    store = Store(own, [first, second], journal)
    threading.Thread(target=announce, args=(store,), daemon=True).start()
    for line in sys.stdin:
        word = line.strip()
        if word == "?":
            say(" ".join(["HAVE", *list(store.words)]))
            continue

        def told(_result: object, error: int, word: str = word) -> None:
            if error == 0:
                say(f"ACK {word}")

        store.put(word, callback=told)


if __name__ == "__main__":
    main(*sys.argv[1:])
