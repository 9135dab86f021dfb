"""Process 1 of a container: the harness at work (platform document §4.6.2, architecture §8).

    component ══ channels (socket, descriptor 3) ══╗
    component ── stdout, stderr ────────────────── Harness ══ hub
    kernel ───── signals, ended children ──────────╝

All decisions are in `session.py` and the cores it uses; here are descriptors, processes and time.
The order of an ordinary life: listener, child, hub; then turns of the loop until the child has
ended; then the exit file, the last records and the last phase within a short time, and the end,
with which the kernel removes whatever else still runs in the container.

Called in a fork of a process that has imported this module.  Nothing here may fail because of what
the component or the hub does: an unexpected exception closes the connection that caused it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
import traceback

from paas.base.errors import RemoteError
from paas.harness import child as processes
from paas.harness import limits
from paas.harness.channel import Channel
from paas.harness.loop import OnReady, Poller, Stream, listen, wake_pipe
from paas.harness.session import AskToEnd, KillAll, Session
from paas.harness.settings import Handoff
from paas.real.kernel_namespaces import adopt_orphans

HUB_SOCKET = "harness.sock"
CHANNEL_DIRECTORIES = ("/run/paas", "/tmp")
"""Where the component's socket is made: the first that can be used."""

_DEFAULTS = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "PYTHONUNBUFFERED": "1",
}
"""A record should not wait in the component until its buffer is full, hence the last one."""


def main(handoff: Handoff, *, directories: tuple[str, ...] = CHANNEL_DIRECTORIES) -> int:
    """Be the harness of one component until that has ended; the exit status for process 1."""
    gc.freeze()  # what the template made is shared with others: the collector shall not touch it
    gc.set_threshold(limits.COLLECT_AFTER, 10, 10)
    return Harness(handoff, directories).run()


class Harness:
    """Descriptors around a `Session`."""

    def __init__(self, handoff: Handoff, directories: tuple[str, ...]) -> None:
        self._handoff = handoff
        self._session = Session(handoff)
        self._session.uplink.tracing.now_ns = time.time_ns
        self._poller = Poller()
        self._streams: dict[int, tuple[Channel, Stream]] = {}
        self._hub: Stream | None = None
        self._child: processes.Child | None = None
        self._status: int | None = None
        self._outputs: dict[str, int] = {}
        self._output_pause_s: float | None = None
        self._sweep_s = 0.0
        self._address, self._listener = listen(directories, handoff.component_gid)
        if self._listener is not None:
            self._poller.read(self._listener.fileno(), self._accept)

    # -- from start to end -----------------------------------------------------------------------

    def run(self) -> int:
        self._catch_signals()
        self._tell_time()
        self._start()
        self._connect()
        while self._session.ending is None:
            self._turn()
        return self._finish()

    def _catch_signals(self) -> None:
        if os.getpid() != 1:
            adopt_orphans()  # process 1 is their parent anyway
        read_fd, write_fd = wake_pipe()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        self._poller.read(read_fd, lambda: self._signals(os.read(read_fd, 512)))

    def _start(self) -> None:
        environment = self._environment()
        speaks = self._handoff.protocol != "none"
        self._child = processes.start(self._handoff, environment, with_channel=speaks)
        for name, fd in (("stdout", self._child.stdout_fd), ("stderr", self._child.stderr_fd)):
            self._outputs[name] = fd
            self._poller.read(fd, self._output_reader(name, fd))
        self._poller.read(self._child.error_fd, self._executed)
        if self._child.channel is not None:
            self._open_channel(self._child.channel)

    def _environment(self) -> dict[str, str]:
        """Defaults, then what the controller gave, then what only the harness knows."""
        handoff = self._handoff
        environment = {**_DEFAULTS, "HOME": handoff.cwd, **handoff.environment}
        environment["PAAS_COMPONENT_ID"] = handoff.component
        for name, (host, port) in handoff.endpoints.items():
            word = "".join(c if c.isalnum() else "_" for c in name.upper())
            environment[f"PAAS_ENDPOINT_{word}"] = f"{host}:{port}"
        if self._address:
            environment["PAAS_SOCKET"] = self._address
        if handoff.protocol != "none":
            environment["PAAS_FD"] = str(processes.CHANNEL_FD)
        return environment

    def _turn(self) -> None:
        self._wait()
        self._do_effects()
        self._flush()
        self._regulate()

    def _wait(self) -> None:
        """Wait and digest; deadlines are looked at in one sweep for many busy turns."""
        busy_s = self._sweep_s - self._session.now_s
        ready = self._poller.wait(busy_s if busy_s > 0 else self._timeout_s())
        self._tell_time()
        for on_ready in ready:
            on_ready()
        now_s = self._session.now_s
        if ready and now_s < self._sweep_s:
            return
        self._sweep_s = now_s + limits.SWEEP_PERIOD_S if ready else 0.0
        self._session.tick()
        if self._output_pause_s is not None and now_s >= self._output_pause_s:
            self._session.capture.digest(now_s, force=True)
        uplink = self._session.uplink
        if self._hub is None and now_s >= uplink.next_attempt_s:
            self._connect()
        elif uplink.overdue:
            self._lose_hub()

    def _tell_time(self) -> None:
        self._session.at(time.monotonic(), time.time())

    def _timeout_s(self) -> float | None:
        times = [self._session.next_deadline_s(), self._output_pause_s]
        if self._hub is None:
            times.append(self._session.uplink.next_attempt_s)
        known = [t for t in times if t is not None]
        return max(min(known) - self._session.now_s, 0.0) + 0.0005 if known else None

    def _do_effects(self) -> None:
        for effect in self._session.take_effects():
            if isinstance(effect, KillAll):
                processes.kill_all()
            elif isinstance(effect, AskToEnd) and self._child is not None and self._status is None:
                processes.send_signal(self._child.pid, signal.SIGTERM)

    def _finish(self) -> int:
        """The component has ended: say so, with its last output, and be gone."""
        processes.kill_all()
        session, ending = self._session, self._session.ending
        assert ending is not None
        words = {"code": ending.code, "signal": ending.signal, "reason": ending.reason}
        _write_exit_file(self._handoff.exit_file_fd, json.dumps(words).encode())
        until_s = session.now_s + limits.LAST_WORDS_S
        while not self._drained() and session.now_s < until_s and self._hub is not None:
            self._flush()
            ready = self._poller.wait(max(until_s - session.now_s, 0.0))
            self._tell_time()
            for on_ready in ready:
                on_ready()
            session.tick()
        if ending.code is not None:
            return ending.code & 0xFF
        return 128 + ending.signal if ending.signal is not None else 127

    def _drained(self) -> bool:
        """Has all that the component left in its pipes reached the hub?"""
        session = self._session
        for name, fd in list(self._outputs.items()):
            self._poller.read(fd, None)
            while not session.capture.crowded and self._read_output(name, fd):
                session.uplink.pump_records(now=True)
        if not session.capture.crowded:
            session.capture.finish(session.now_s, int(session.wall_s * 1000))
        session.uplink.pump_records(now=True)
        uplink = session.uplink
        return session.capture.empty and not uplink.outbox.bytes and uplink.attached

    # -- the process -----------------------------------------------------------------------------

    def _signals(self, numbers: bytes) -> None:
        for pid, status in processes.reap():
            if self._child is not None and pid == self._child.pid:
                self._status = status
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._session.stop(limits.TERMINATE_GRACE_S, "destroyed")
        self._judge()

    def _executed(self) -> None:
        """The child became the program (the pipe has ended), or tells why not."""
        assert self._child is not None
        fd = self._child.error_fd
        text = os.read(fd, 4_096).decode("utf-8", "replace")
        self._poller.forget(fd)
        os.close(fd)
        if text:
            self._session.start_failed(text)
        else:
            self._session.started()
        self._judge()

    def _judge(self) -> None:
        """Has it ended?  Not before it is known whether it was executed at all."""
        child = self._child
        if self._status is None or self._session.ending is not None or child is None:
            return
        if self._poller.reads(child.error_fd):
            return
        for channel, stream in list(self._streams.values()):
            self._read_rest(channel, stream)
        status = self._status
        if status >= 0:
            self._session.ended(status)
        else:
            self._session.ended(None, -status, processes.signal_name(-status))

    def _output_reader(self, name: str, fd: int) -> OnReady:
        return lambda: self._read_output(name, fd)

    def _read_output(self, name: str, fd: int) -> bool:
        """Read once; false when nothing is there."""
        try:
            data = os.read(fd, limits.READ_BYTES)
        except BlockingIOError:
            return False
        session = self._session
        if not data:
            self._poller.forget(fd)
            os.close(fd)
            del self._outputs[name]
            return False
        session.capture.feed(name, data, session.now_s, int(session.wall_s * 1000))
        session.uplink.pump_records()
        return True

    def _regulate(self) -> None:
        """While lines wait for room the pipes are read slowly, so that a flood costs little."""
        crowded = self._session.capture.crowded
        if self._output_pause_s is None and crowded:
            self._output_pause_s = self._session.now_s + limits.DRAIN_PAUSE_S
            for fd in self._outputs.values():
                self._poller.read(fd, None)
        elif self._output_pause_s is not None and not crowded:
            self._output_pause_s = None
            for name, fd in self._outputs.items():
                self._poller.read(fd, self._output_reader(name, fd))

    # -- channels --------------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._open_channel(sock)

    def _open_channel(self, sock: socket.socket) -> None:
        channel = self._session.channel_opened()
        if channel is None:
            sock.close()
            return
        stream = Stream(self._poller, sock, channel.outbox)
        self._streams[channel.number] = (channel, stream)
        self._listen_to(channel, stream)

    def _listen_to(self, channel: Channel, stream: Stream) -> None:
        stream.listen(lambda: self._read_channel(channel, stream))

    def _read_channel(self, channel: Channel, stream: Stream) -> bool:
        """Read once; false at the end, or when nothing is there."""
        data = stream.read()
        if data is None or stream.closed:
            return False
        if not data:
            self._close_channel(channel, stream)
            return False
        try:
            self._session.receive_component(channel, data)
        except RemoteError as exc:
            channel.outbox.add(self._session.last_words(channel, exc))
            stream.flush()
            self._close_channel(channel, stream)
        except Exception as exc:
            self._bug(exc)
            self._close_channel(channel, stream)
        return not stream.closed

    def _read_rest(self, channel: Channel, stream: Stream) -> None:
        """Its process has ended; what it said before counts."""
        for _ in range(limits.DRAIN_READS_MAX):
            if not self._read_channel(channel, stream):
                return

    def _close_channel(self, channel: Channel, stream: Stream) -> None:
        stream.close()
        self._streams.pop(channel.number, None)
        if channel.number in self._session.channels:
            self._session.channel_closed(channel)

    # -- hub -------------------------------------------------------------------------------------

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(f"/proc/self/fd/{self._handoff.hub_directory_fd}/{HUB_SOCKET}")
        except OSError:
            sock.close()
            self._session.hub_lost(_fraction())
            return
        self._session.uplink.connected()
        self._hub = Stream(self._poller, sock, self._session.uplink.outbox)
        self._hub.listen(self._read_hub)

    def _read_hub(self) -> None:
        hub = self._hub
        if hub is None:
            return
        data = hub.read()
        if data is None:
            return
        if not data:
            self._lose_hub()
            return
        try:
            self._session.receive_hub(data)
        except RemoteError:
            self._lose_hub()
        except Exception as exc:
            self._bug(exc)
            self._lose_hub()

    def _lose_hub(self) -> None:
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        self._session.hub_lost(_fraction())

    # -- out -------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Send what waits; a component that does not read is not read from."""
        uplink = self._session.uplink
        if self._hub is not None and not self._hub.flush():
            self._lose_hub()
        hub_full = uplink.outbox.bytes > limits.HUB_PAUSE_BYTES
        for channel, stream in list(self._streams.values()):
            if not stream.flush():
                self._close_channel(channel, stream)
            elif hub_full or channel.outbox.bytes > limits.CHANNEL_PAUSE_BYTES:
                stream.listen(None)
            elif stream.paused:
                self._listen_to(channel, stream)

    def _bug(self, exc: Exception) -> None:
        """Ours: the whole of it for the harness's own log, a word for the component's."""
        traceback.print_exception(exc, file=sys.stderr)
        self._session.note("error", f"the harness made an error: {type(exc).__name__}")


def _fraction() -> float:
    """Chance in [0, 1), so that many harnesses do not come back to a hub at the same time."""
    return int.from_bytes(os.urandom(2), "big") / 65_536


def _write_exit_file(fd: int, words: bytes) -> None:
    try:
        os.pwrite(fd, words, 0)
    except OSError as exc:
        sys.stderr.write(f"exit file: {exc}\n")
