"""One bare node of the library in a process of its own: `python bare_process.py MODE DIRECTORY`.

fill       append to its journal until it ends
write      commit and acknowledge words while a large state is dumped, until it is killed
look       start again from the same directory and tell what is there
"""

from __future__ import annotations

import os
import sys
import time

from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.journal import FileJournal


class Store(SyncObj):
    def __init__(self, directory: str) -> None:
        conf = SyncObjConf(
            journalFile=f"{directory}/journal",
            fullDumpFile=f"{directory}/dump",
            logCompactionMinTime=1,
            logCompactionMinEntries=10**9,
            commandsWaitLeader=True,
            autoTick=False,
        )
        super().__init__("127.0.0.1:43907", [], conf)
        self.words: list[str] = []
        self.ballast: list[str] = []

    @replicated
    def put(self, word: str) -> None:
        self.words.append(word)

    @replicated
    def swell(self, count: int) -> None:
        self.ballast = [str(number) * 8 for number in range(count)]


def fill(directory: str) -> None:
    journal = FileJournal(directory + "/journal")
    for index in range(1, 10_000):
        try:
            journal.add(b"\x00" + b"x" * 4_096, index, 1)
        except OSError as error:
            os.write(1, f"REFUSED {error.errno}\n".encode())
            return


def write(directory: str) -> None:
    store = Store(directory)
    number = 0
    while True:
        store.doTick(0.005)
        if not store._isLeader():
            continue
        if not store.ballast:
            if number == 0:
                store.swell(600_000)
                number = 1
            continue
        number += 1
        word = f"w{number}"

        def told(_result: object, error: int, word: str = word) -> None:
            if error == 0:
                os.write(1, f"ACK {word}\n".encode())

        store.put(word, callback=told)


def look(directory: str) -> None:
    store = Store(directory)
    until = time.monotonic() + 8
    while time.monotonic() < until:
        store.doTick(0.01)
    sys.stdout.write(" ".join(["HAVE", *store.words]) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    {"fill": fill, "write": write, "look": look}[sys.argv[1]](sys.argv[2])
