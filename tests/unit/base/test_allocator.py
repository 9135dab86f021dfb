"""What worker threads have freed is the kernel's again (paas/real/allocator.py)."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from paas.real.allocator import keep_little

if sys.argv[1] == "little":
    assert keep_little()

def resident_kib():
    return int(open("/proc/self/statm").read().split()[1]) * 4

def work(done, end):
    for size in (9, 8, 7, 6, 5, 4, 3):
        block = b"x" * (size << 20)
        del block
    kept = b"x" * 3_000
    done.wait()
    end.wait()

before_kib = resident_kib()
done, end = threading.Barrier(5), threading.Event()
threads = [threading.Thread(target=work, args=(done, end)) for _ in range(4)]
for thread in threads:
    thread.start()
done.wait()
print(resident_kib() - before_kib)
end.set()
"""


def growth_kib(word: str) -> int:
    words = [sys.executable, "-c", PROGRAM, word]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_four_threads_leave_less_than_one_of_their_blocks() -> None:
    plain, little = growth_kib("plain"), growth_kib("little")
    assert little < 3_000 < plain, "36,100 and 250 when this was written"
