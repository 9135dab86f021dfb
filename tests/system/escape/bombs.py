"""Floods and bombs, as data: what is tried, inside which bounds, and what must come of it.

Each program prints one JSON list [how many it got, what stopped it]; `most` bounds the first,
`stopped` names the second.  A program that is to be ended by the kernel prints nothing: then
`reason` is the container's.
"""

from __future__ import annotations

from dataclasses import dataclass

from paas.container.messages import Limits

SMALL = Limits(memory_bytes=48 << 20, cpu=1.0, pids=32, disk_bytes=8 << 20)
LARGE = Limits(memory_bytes=256 << 20, cpu=1.0, pids=32, disk_bytes=8 << 20)

_FRAME = """
import ctypes, errno, json, mmap, os, signal, socket, sys, threading, time
count, kept = 0, []
try:
    while count < {tries}:
        {step}
        count += 1
    stopped = "nothing"
except OSError as exc:
    stopped = errno.errorcode[exc.errno]
except RuntimeError as exc:
    stopped = str(exc)
kept_open = kept
print(json.dumps([count, stopped]), flush=True)
os._exit(0)
"""


@dataclass(frozen=True)
class Bomb:
    """One flood."""

    name: str
    step: str
    stopped: str = ""
    most: int = 0
    reason: str = "normal"
    tries: int = 1 << 20
    limits: Limits = SMALL

    @property
    def source(self) -> str:
        return _FRAME.format(step=self.step.replace("\n", "\n        "), tries=self.tries)


BOMBS = (
    Bomb(
        "processes",
        "if os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)",
        stopped="EAGAIN",
        most=SMALL.pids,
    ),
    Bomb(
        "processes that nobody waits for",
        "if os.fork() == 0:\n    os._exit(0)",
        stopped="EAGAIN",
        most=SMALL.pids,
    ),
    Bomb(
        "threads",
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        stopped="can't start new thread",
        most=SMALL.pids,
    ),
    Bomb("descriptors", 'kept.append(os.open("/dev/null", 0))', "EMFILE", 16_384, limits=LARGE),
    Bomb("sockets", "kept.append(socket.socket())", "EMFILE", 16_384, limits=LARGE),
    Bomb("terminals", "kept.append(os.openpty())", "ENOSPC", 64),
    Bomb("files", 'open(f"/app/{count}", "w").close()', "ENOSPC", 16_384),
    Bomb("files in memory", 'open(f"/tmp/{count}", "w").close()', "ENOSPC", 16_384),
    Bomb("files in shared memory", 'open(f"/dev/shm/{count}", "w").close()', "ENOSPC", 4_096),
    Bomb(
        "directories in one another",
        'os.mkdir("/app/d" if not count else "d")\nos.chdir("/app/d" if not count else "d")',
        "ENOSPC",
        16_384,
    ),
    Bomb(
        "bytes on the disk",
        'with open("/app/big", "ab") as f: f.write(bytes(1 << 18))',
        "ENOSPC",
        32,
    ),
    Bomb(
        "bytes in /tmp", 'with open("/tmp/big", "ab") as f: f.write(bytes(1 << 18))', "ENOSPC", 256
    ),
    Bomb("long names", 'open("/app/" + f"{count:0250}", "w").close()', "ENOSPC", 16_384),
    Bomb(
        "timers",
        "timer = ctypes.c_void_p()\n"
        "if ctypes.CDLL(None, use_errno=True).timer_create(1, None, ctypes.byref(timer)):\n"
        "    raise OSError(ctypes.get_errno(), '')",
        "EAGAIN",
        4_096,
    ),
    Bomb(
        "message queues",
        "name = f'/q{count}'.encode()\n"
        "if ctypes.CDLL(None, use_errno=True).mq_open(name, 66, 0o600, None) < 0:\n"
        "    raise OSError(ctypes.get_errno(), '')",
        "EMFILE",
        256,
    ),
    Bomb(
        "locked memory",
        "kept.append(mmap.mmap(-1, 1 << 20))\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(kept[-1]))\n"
        "if ctypes.CDLL(None, use_errno=True).mlock(ctypes.c_void_p(address), 1 << 20):\n"
        "    raise OSError(ctypes.get_errno(), '')",
        "ENOMEM",
        8,
    ),
    Bomb("memory", "kept.append(bytearray(1 << 20))", reason="out-of-memory"),
    Bomb(
        "memory of pipes",
        "r, w = os.pipe()\n"
        "os.set_blocking(w, False)\n"
        "kept.append((r, w))\n"
        "os.write(w, bytes(65536))",
        reason="out-of-memory",
    ),
    Bomb(
        "memory of nameless files",
        'kept.append(os.memfd_create("x"))\nos.write(kept[-1], bytes(1 << 20))',
        reason="out-of-memory",
    ),
    Bomb(
        "memory shared by key",
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.shmat.restype = ctypes.c_void_p\n"
        "number = libc.shmget(0, 1 << 20, 0o1600)\n"
        "if number < 0:\n"
        "    raise OSError(ctypes.get_errno(), '')\n"
        "ctypes.memset(libc.shmat(number, None, 0), 1, 1 << 20)",
        reason="out-of-memory",
    ),
)

STUBBORN = {
    "ignores every signal": """
import signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
print("ready", flush=True)
while True:
    time.sleep(60)
""",
    "forks twice and leaves": """
import os, time
print("ready", flush=True)  # with the component itself its container ends, daemons included
for _ in range(2):
    if os.fork():
        os._exit(0)
    os.setsid()
time.sleep(600)
""",
    "stops itself": """
import os, signal
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
""",
    "is many daemons": """
import os, signal, time
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
print("ready", flush=True)
time.sleep(600)
""",
    "breeds as fast as it can": """
import os
print("ready", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "is held by its own child": """
import ctypes, time
print("ready", flush=True)
if ctypes.CDLL(None).vfork() == 0:
    time.sleep(600)
""",
}
