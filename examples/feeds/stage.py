"""The whole application on this machine, without a platform and without root (io).

    python3 examples/feeds/stage.py            starts everything, prints the address of the page

For working on it, and for its tests.  Each component is its own process with the real SDK; what is
played here is the hub, as far as these components use it: groups, calls with the selectors any,
all, leader and hash, casts, watches of groups, resources.  A process that dies is started again, as
its manifest says.  There are no containers, no limits and no authorisation here.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROLES = ("origin", "timeline", "scheduler", "indexer", "fetcher", "alerter", "frontend")
REQUIRED = {"origin": "feeds.origins", "smtp": "feeds.smtp"}
READY_S = 20.0

Json = dict[str, Any]


class StageError(Exception):
    """An error of the platform's kind, with its `code`."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{message or code} [{code}]")
        self.code = code
        self.message = message or code


class Part:
    """One component: a process and its channel."""

    def __init__(self, stage: Stage, role: str, name: str, configuration: Json) -> None:
        self.stage, self.role, self.name = stage, role, name
        self.configuration = configuration
        self.id = hashlib.sha1(name.encode()).hexdigest()
        self.groups: list[str] = []
        self.ready = threading.Event()
        self.wanted = True
        self.restarts = -1
        self.logs: list[Json] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{free_port()}"
        self._socket: socket.socket | None = None
        self._sending = threading.Lock()
        self._path = f"{stage.folder}/{name}.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen()
        threading.Thread(target=self._supervise, daemon=True).start()
        threading.Thread(target=self._accept, daemon=True).start()

    def _supervise(self) -> None:
        command = tomllib.loads((self.stage.source(self.role) / "component.toml").read_text())
        words = [sys.executable, *command["component"]["command"][1:]]
        while self.wanted:
            self.restarts += 1
            self.process = subprocess.Popen(
                words,
                cwd=self.stage.source(self.role),
                env={
                    **os.environ,
                    "PAAS_SOCKET": self._path,
                    "PAAS_COMPONENT_ID": self.id,
                    "PAAS_ENDPOINT_HTTP": self.address,
                    "FEEDS_DATA": str(self.stage.folder),
                },
                stdin=subprocess.DEVNULL,
                stderr=self.stage.errors,
                start_new_session=True,
            )
            self.process.wait()
            self.stage.lost(self)
            time.sleep(0.1)

    def _accept(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return
            self._socket = channel
            threading.Thread(target=self._read, args=(channel,), daemon=True).start()

    def _read(self, channel: socket.socket) -> None:
        self.send(
            {
                "id": 0,
                "method": "component.configure",
                "params": {"configuration": self.configuration},
            }
        )
        with channel.makefile("rb") as lines, contextlib.suppress(OSError):
            for text in lines:
                if text.strip():
                    self.stage.heard(self, json.loads(text))

    def send(self, message: Json) -> bool:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        with self._sending:
            try:
                assert self._socket is not None
                self._socket.sendall(data)
            except (OSError, AssertionError):
                return False
        return True

    def kill(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, grace_s: float = 5.0) -> None:
        """As the platform does: out of its groups first, then asked to end, then made to."""
        self.wanted = False
        self.stage.lost(self, calls=False)
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._listener.close()


class Stage:
    """All parts, and the hub between them."""

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="feeds-stage-"))
        self.errors = (self.folder / "errors.log").open("ab")
        self.parts: dict[str, Part] = {}
        self.lock = threading.RLock()
        self._log = log
        self._numbers = itertools.count(1)
        self._turn = itertools.count()
        self._pending: dict[int, tuple[Part, Callable[[Json], None]]] = {}
        self._watches: dict[int, tuple[Part, str]] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        parts = list(self.parts.values())
        for part in parts:
            part.wanted = False
        for part in parts:
            part.kill()
            part.end()
        self.errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what a user does --------------------------------------------------------------------------

    def source(self, role: str) -> Path:
        """A copy of the role's sources, with the SDK beside them."""
        copy = self.folder / "sources" / role
        with self.lock:
            if not copy.exists():
                sys.path.insert(0, str(HERE.parents[1]))
                from paas.cli.sdk_files import sdk_files

                shutil.copytree(HERE / role, copy, ignore=shutil.ignore_patterns("__pycache__"))
                for name, text in sdk_files("python").items():
                    (copy / name).write_text(text)
        return copy

    def start(self, role: str, name: str = "", **configuration: Any) -> Part:
        """One more component of a role, once it is ready."""
        name = name or f"{role}-{next(self._numbers)}"
        part = self.parts[name] = Part(self, role, name, configuration)
        if not part.ready.wait(READY_S):
            raise StageError("timeout", f"{name} is not ready: {self.said()}")
        return part

    def start_all(self, **configurations: Json) -> None:
        for role in ROLES:
            self.start(role, **configurations.get(role, {}))

    def stop(self, part: Part) -> None:
        """One component less, orderly."""
        part.end()
        self.parts.pop(part.name, None)

    def of(self, role: str) -> list[Part]:
        return [p for p in self.parts.values() if p.role == role]

    def said(self) -> str:
        self.errors.flush()
        return (self.folder / "errors.log").read_text(errors="replace")[-4000:]

    def call(self, target: str, operation: str, timeout: float = 15.0, **inputs: Any) -> Any:
        """Ask a component as an operator would; its outputs."""
        box: list[Json] = []
        done = threading.Event()

        def answered(answer: Json) -> None:
            box.append(answer)
            done.set()

        selector = "all" if target.startswith("all:") else "any"
        target = target.removeprefix("all:")
        self._call(
            {"target": target, "operation": operation, "inputs": inputs, "selector": selector},
            answered,
        )
        if not done.wait(timeout):
            raise StageError("timeout", f"{operation} of {target}")
        if "error" in box[0]:
            error = box[0]["error"]
            raise StageError(error["data"]["code"], error["message"])
        result = box[0]["result"]
        return result["replies"] if "replies" in result else result["outputs"]

    # -- the hub -----------------------------------------------------------------------------------

    def heard(self, part: Part, message: Json) -> None:
        if "method" not in message:
            with self.lock:
                found = self._pending.pop(message.get("id", 0), None)
            if found is not None:
                found[1](message)
            return
        params, identity = message.get("params") or {}, message.get("id")

        def answer(found: Json) -> None:
            if identity is not None:
                part.send({"id": identity, **found})

        method = message["method"].replace(".", "_")
        try:
            getattr(self, f"_on_{method}")(part, params, answer)
        except StageError as exc:
            answer({"error": error_of(exc.code, exc.message)})

    def _on_component_ready(self, part: Part, params: Json, answer: Any) -> None:
        answer({"result": {}})
        part.ready.set()

    def _on_log_write(self, part: Part, params: Json, answer: Any) -> None:
        part.logs.append(params)
        if self._log is not None:
            self._log(f"{part.name}: {params['message']} {params.get('fields') or ''}")

    def _on_rpc_cancel(self, part: Part, params: Json, answer: Any) -> None:
        """Nobody waits for the answer any more; it is dropped when it comes."""

    def _on_component_exit(self, part: Part, params: Json, answer: Any) -> None:
        part.wanted = False

    def _on_hub_join(self, part: Part, params: Json, answer: Any) -> None:
        with self.lock:
            part.groups += [g for g in params["groups"] if g not in part.groups]
            counts = {g: len(self.members(g)) for g in params["groups"]}
        answer({"result": {"positions": counts, "members": counts, "token": counts}})
        for group in params["groups"]:
            self._announce("joined", group, part)

    def _on_hub_watch(self, part: Part, params: Json, answer: Any) -> None:
        number = next(self._numbers)
        with self.lock:
            self._watches[number] = (part, params["group"])
        answer({"result": {"watch": number, "snapshot": [], "index": 0, "resumed": False}})

    def _on_resource_resolve(self, part: Part, params: Json, answer: Any) -> None:
        found = []
        for member in self.members(REQUIRED[params["name"]]):
            host, _, port = member.address.rpartition(":")
            protocol = "smtp" if params["name"] == "smtp" else "http"
            found.append({"protocol": protocol, "host": host, "port": int(port)})
        answer({"result": {"endpoints": found, "attributes": {}}})

    def _on_hub_cast(self, part: Part, params: Json, answer: Any) -> None:
        chosen = self._choose(params)
        for member in chosen:
            member.send(
                {"method": "component.invoke", "params": {**invocation(params), "oneway": True}}
            )
        answer({"result": {"accepted": len(chosen)}})

    def _on_hub_call(self, part: Part, params: Json, answer: Any) -> None:
        self._call(params, answer)

    def _call(self, params: Json, answer: Callable[[Json], None]) -> None:
        chosen = self._choose(params)
        if params.get("selector") != "all":
            self._invoke(chosen[0], params, answer)
            return
        replies: list[Json] = []

        def collect(member: Part) -> Callable[[Json], None]:
            def one(found: Json) -> None:
                replies.append({"component": member.id, **found.get("result", found)})
                if len(replies) == len(chosen):
                    answer({"result": {"replies": replies}})

            return one

        for member in chosen:
            self._invoke(member, params, collect(member))

    def _invoke(self, member: Part, params: Json, answer: Callable[[Json], None]) -> None:
        identity = next(self._numbers)

        def answered(message: Json) -> None:
            if "error" in message:
                answer({"error": message["error"]})
            else:
                answer({"result": {**message["result"], "component": member.id}})

        with self.lock:
            self._pending[identity] = (member, answered)
        if not member.send(
            {"id": identity, "method": "component.invoke", "params": invocation(params)}
        ):
            self._pending.pop(identity, None)
            answer({"error": error_of("not-available", f"{member.name} is not there")})

    def _choose(self, params: Json) -> list[Part]:
        target, selector = params["target"], params.get("selector", "any")
        if not target.startswith("group:"):
            found = [p for p in self.parts.values() if target in (p.name, p.id)]
        else:
            found = self.members(target.removeprefix("group:"))
        if not found:
            raise StageError("no-such-target", f"nobody is in {target}")
        if selector == "all":
            return found
        if selector.startswith("hash:"):
            key = selector.encode()
            return [max(found, key=lambda p: hashlib.sha1(key + p.id.encode()).digest())]
        return [found[0] if selector == "leader" else found[next(self._turn) % len(found)]]

    def members(self, group: str) -> list[Part]:
        with self.lock:
            return [p for p in self.parts.values() if group in p.groups and p.ready.is_set()]

    def lost(self, part: Part, calls: bool = True) -> None:
        """It is gone, or is to go: out of its groups; who waits for it is told if it is gone."""
        with self.lock:
            groups, part.groups = part.groups, []
            part.ready.clear()
            waiting = [n for n, (member, _) in self._pending.items() if member is part and calls]
            told = [self._pending.pop(n)[1] for n in waiting]
            self._watches = {
                n: w for n, w in self._watches.items() if w[0] is not part or not calls
            }
        for answer in told:
            answer({"error": error_of("not-available", f"{part.name} has ended")})
        for group in groups:
            self._announce("left", group, part)

    def _announce(self, event: str, group: str, part: Part) -> None:
        with self.lock:
            told = [(n, w) for n, (w, watched) in self._watches.items() if watched == group]
        for number, watcher in told:
            fields = {"watch": number, "event": event, "index": 0, "component": part.id}
            watcher.send({"method": "component.event", "params": fields})


def invocation(params: Json) -> Json:
    names = ("operation", "object", "inputs", "attachments")
    found = {name: params[name] for name in names if params.get(name)}
    deadline = time.time() + float(params.get("timeout", 30.0))
    return {"object": "", "inputs": {}, "from": "0" * 40, "deadline": deadline, **found}


def error_of(code: str, message: str) -> Json:
    return {"code": -32000, "message": message, "data": {"code": code}}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    with Stage(lambda text: say(text)) as stage:
        stage.start_all(origin={"quakes_per_s": 0.5})
        say(f"\nhttp://{stage.of('frontend')[0].address}/\n")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
