"""A small hub on a real UNIX socket, for the command line's tests.

It behaves (types must exist, names are taken once, prefixes resolve, uploads must be whole) and it
is verified against the declared messages: every request must convert to the method's parameters,
every answer to its result, so it cannot drift from the API unnoticed.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.bundle import messages as bundle_messages
from paas.bundle.digest import of
from paas.certificates import messages as certificate_messages
from paas.cli.main import main
from paas.cli.supervisor import take_lock
from paas.controller import messages as controller_messages
from paas.hub import messages as hub_messages
from paas.logs import messages as log_messages
from paas.node import messages as node_messages
from paas.wire.registry import BY_NAME

_DECLARED = (
    bundle_messages,
    certificate_messages,
    controller_messages,
    hub_messages,
    log_messages,
    node_messages,
)


@dataclass
class Done:
    """The end of one command."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class FakeHub:
    """State, and a handler a method: `hub_call` answers `hub.call`."""

    types: dict[str, dict[str, Any]] = field(default_factory=dict)
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    bundles: dict[str, dict[str, Any]] = field(default_factory=dict)
    trusted: list[str] = field(default_factory=list)
    uploads: dict[int, bytes] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    done: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[str] = field(default_factory=lambda: ["n1"])
    cordoned: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    tokens: dict[str, str] = field(default_factory=dict)  # id -> state
    voters: int = 5
    stale: float | None = None
    without_leader: bool = False
    refuses: str = ""
    hang_up: bool = False
    sockets: list[socket.socket] = field(default_factory=list)
    attributes: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def sent(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.requests if name == method]

    def add_type(self, name: str, version: str = "1.0.0") -> None:
        full = f"{name}@{version}"
        self.types[full] = {
            "type": full,
            "name": name,
            "version": version,
            "bundle": of(full.encode()),
            "manifest": {"component": {"name": name, "command": ["true"]}},
            "since": 1_000.0,
            "running": 0,
        }

    def add_component(self, type_: str, name: str = "", groups: tuple[str, ...] = ()) -> str:
        identity = f"{len(self.components) + 0xABCD0000:08x}" + os.urandom(16).hex()
        self.components[identity] = {
            "id": identity,
            "name": name,
            "type": type_,
            "state": "available",
            "since": 1_000.0,
            "node": "n1",
            "restarts": 0,
            "reason": "",
            "endpoints": {"http": {"protocol": "http", "host": "10.0.0.2", "port": 8000}},
            "groups": list(groups),
            "memory": 9_000_000,
            "pid": 77,
        }
        return identity

    def add_record(self, component: str, message: str, level: str = "info") -> None:
        found = self.components[component]
        self.records.append(
            {
                "component": component,
                "name": found["name"],
                "type": found["type"],
                "sequence": len(self.records),
                "time": 1_700_000_000.25,
                "stream": "log",
                "level": level,
                "message": message,
                "fields": {"n": len(self.records)},
            }
        )

    def resolve(self, target: str) -> str:
        for identity, found in self.components.items():
            if target in (identity, found["name"]) and target:
                return identity
        found_ids = [i for i in self.components if len(target) >= 8 and i.startswith(target)]
        if len(found_ids) == 1:
            return found_ids[0]
        raise PlatformError("no-such-target", f"no component is called {target!r}")

    def members(self, group: str) -> list[str]:
        return [i for i, c in self.components.items() if group in c["groups"]]

    def type_of(self, name: str) -> str:
        found = [full for full, t in self.types.items() if name in (full, t["name"])]
        if not found:
            raise PlatformError("no-such-type", f"no type is called {name!r}")
        return found[-1]

    # -- methods ---------------------------------------------------------------------------------

    def rpc_discover(self, _: dict[str, Any]) -> Any:
        methods = [{"name": name} for name in BY_NAME]
        return {"openrpc": "1.3.2", "info": {}, "methods": methods, "components": {}}

    def cluster_status(self, _: dict[str, Any]) -> Any:
        return {
            "cluster": "test",
            "version": "0",
            "nodes": [{"name": "n1", "state": "available", "components": len(self.components)}],
            "log": {"role": "leader"},
            "types": len(self.types),
            "components": {"available": len(self.components)},
        }

    def node_info(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "state": "available",
            "since": 1_000.0,
            "address": f"10.130.0.{name[1:]}:7420",
            "role": "leader" if name == "n1" else "voter",
            "components": len(self.components),
            "lease_age": 0.2,
            "cordoned": name in self.cordoned,
            "draining": False,
            "memory": 1 << 30,
            "cpu": 2.0,
            "disk": 0,
            "version": "0",
            "reason": "",
            "bases": [],
            "labels": {},
            "virtual_nodes": 4096,
            "storage": "full" if name in self.full else "ok",
        }

    def nodes_list(self, _: dict[str, Any]) -> Any:
        found = [self.node_info(name) for name in self.nodes]
        return {"nodes": found, "stale": self.stale}

    def nodes_show(self, params: dict[str, Any]) -> Any:
        if params["node"] not in self.nodes:
            raise PlatformError("no-such-target", f"no node is called {params['node']!r}")
        return self.node_info(params["node"])

    def nodes_cordon(self, params: dict[str, Any]) -> Any:
        self.cordoned.add(params["node"])
        return self.nodes_show(params)

    def nodes_uncordon(self, params: dict[str, Any]) -> Any:
        self.cordoned.discard(params["node"])
        return self.nodes_show(params)

    def nodes_drain(self, params: dict[str, Any]) -> Any:
        left = dict.fromkeys(self.components, "its next copy starts")
        return {"node": params["node"], "left": len(left), "components": left}

    def nodes_remove(self, params: dict[str, Any]) -> Any:
        if self.components and not params["force"]:
            raise PlatformError("refused", "components are on it")
        self.nodes.remove(params["node"])
        return {}

    def cluster_members(self, _: dict[str, Any]) -> Any:
        found = [
            {
                "node": n,
                "role": self.node_info(n)["role"],
                "address": f"{n}:7420",
                "state": "available",
                "behind": 0 if n == "n1" else None,
            }
            for n in self.nodes
        ]
        return {
            "members": found,
            "leader": "n1",
            "term": 3,
            "change": "n3 becomes a voter",
            "wanted": self.voters,
        }

    def cluster_want_voters(self, params: dict[str, Any]) -> Any:
        self.voters = params["voters"]
        return self.cluster_members({})

    def cluster_create_token(self, params: dict[str, Any]) -> Any:
        expires = time.time() + params.get("ttl", 600.0)
        return {"token": "paas1-secret", "expires": expires, "address": "10.130.0.1:7421"}

    def token_info(self, token: str) -> dict[str, Any]:
        node = "n2" if self.tokens[token] == "used" else ""
        return {"id": token, "state": self.tokens[token], "expires": 1_000.0, "node": node}

    def cluster_tokens(self, _: dict[str, Any]) -> Any:
        return {"tokens": [self.token_info(token) for token in self.tokens]}

    def cluster_revoke_token(self, params: dict[str, Any]) -> Any:
        if params["token"] not in self.tokens:
            raise PlatformError("no-such-target", f"there is no join token {params['token']}")
        return {**self.token_info(params["token"]), "state": "revoked"}

    def controller_types(self, _: dict[str, Any]) -> Any:
        return {"types": list(self.types.values())}

    def controller_type(self, params: dict[str, Any]) -> Any:
        return self.types[self.type_of(params["type"])]

    def controller_unregister_type(self, params: dict[str, Any]) -> Any:
        del self.types[self.type_of(params["type"])]
        return {}

    def controller_register_type(self, params: dict[str, Any]) -> Any:
        part = params["manifest"]["component"]
        self.add_type(part["name"], part["version"])
        return {"type": f"{part['name']}@{part['version']}"}

    def controller_create(self, params: dict[str, Any]) -> Any:
        if params["request_id"] in self.done:
            return self.done[params["request_id"]]
        full = self.type_of(params["type"])
        if params["name"] and any(c["name"] == params["name"] for c in self.components.values()):
            raise PlatformError("conflict", f"the name {params['name']!r} is taken")
        groups = tuple(params["groups"])
        made = [self.add_component(full, params["name"], groups) for _ in range(params["count"])]
        self.done[params["request_id"]] = {"components": made}
        return self.done[params["request_id"]]

    def controller_components(self, params: dict[str, Any]) -> Any:
        wanted = params.get("filter", {})
        found = [
            c
            for c in self.components.values()
            if (params.get("all") or c["state"] != "destroyed")
            and all(v in c["groups"] if k == "group" else c[k] == v for k, v in wanted.items())
        ]
        return {"components": found}

    def controller_component(self, params: dict[str, Any]) -> Any:
        return self.components[self.resolve(params["component"])]

    def controller_terminate(self, params: dict[str, Any]) -> Any:
        found = self.components[self.resolve(params["component"])]
        if self.refuses:
            return {"accepted": False, "reason": self.refuses}
        found["state"] = "destroyed"
        return {"accepted": True, "reason": ""}

    def controller_destroy(self, params: dict[str, Any]) -> Any:
        self.components[self.resolve(params["component"])]["state"] = "destroyed"
        return {}

    def controller_link(self, params: dict[str, Any]) -> Any:
        self.resolve(params["a"]), self.resolve(params["b"])
        return {}

    controller_unlink = controller_link

    def controller_monitor(self, params: dict[str, Any]) -> Any:
        component = self.resolve(params["component"])
        self.events.append({"watch": 9, "index": 1, "event": "up", "component": component})
        self.events.append(
            {"watch": 9, "index": 2, "event": "down", "component": component, "reason": "normal"}
        )
        return {"watch": 9}

    def hub_call(self, params: dict[str, Any]) -> Any:
        target, _, group = params["target"].partition("group:")
        ids = self.members(group) if group else [self.resolve(target)]
        if not ids:
            raise PlatformError("no-such-target", f"no group is called {group!r}")
        if params["operation"] == "fail":
            raise PlatformError("failed", "ValueError: no", log=["one", "two"])
        answers = [{"component": i, "outputs": {"echo": params["inputs"]}} for i in ids]
        return {"replies": answers} if params["selector"] == "all" else answers[0]

    def hub_cast(self, params: dict[str, Any]) -> Any:
        self.hub_call(params)
        group = params["target"].partition("group:")[2]
        many = params["selector"] == "all" and group
        return {"accepted": len(self.members(group)) if many else 1}

    def hub_set_attributes(self, params: dict[str, Any]) -> Any:
        identity = self.resolve(params["target"])
        kept = self.attributes.setdefault((identity, params.get("object", "")), {})
        for name, value in params.get("expect", {}).items():
            if kept.get(name) != value:
                raise PlatformError("conflict", f"attribute {name!r} has another value")
        kept.update(params["attributes"])
        return {"index": 7}

    def hub_get_attributes(self, params: dict[str, Any]) -> Any:
        target, object_ = params["target"], params.get("object", "")
        names = params.get("names")

        def of(identity: str) -> dict[str, Any]:
            found = self.attributes.get((identity, object_), {})
            return {k: v for k, v in found.items() if v is not None and k in (names or found)}

        if not target.startswith("group:"):
            return {"index": 7, "attributes": of(self.resolve(target))}
        members = {i: of(i) for i in self.members(target[len("group:") :])}
        answer = {"index": 7, "members": members, "missing": {"ab" * 20: "not-available"}}
        if "aggregate" in params:
            loads = [attributes["load"] for attributes in members.values()]
            answer["aggregates"] = {"load": sum(loads)}
        return answer

    def hub_groups(self, params: dict[str, Any]) -> Any:
        names = sorted({g for c in self.components.values() for g in c["groups"]})
        prefix = params.get("prefix", "")
        return {"groups": {n: len(self.members(n)) for n in names if n.startswith(prefix)}}

    def hub_members(self, params: dict[str, Any]) -> Any:
        return {"members": [self._member(i) for i in self.members(params["group"])]}

    def _member(self, identity: str) -> dict[str, Any]:
        found = self.components[identity]
        return {k: found[k] for k in ("name", "node", "state")} | {"component": identity}

    def hub_await(self, params: dict[str, Any]) -> Any:
        found = self.members(params["group"])
        if len(found) < params["count"]:
            raise PlatformError("timeout")
        return {"members": [self._member(i) for i in found]}

    def hub_watch(self, params: dict[str, Any]) -> Any:
        if "attributes" in params:
            changed = {"event": "changed", "kind": "durable", "attributes": {"level": 4}}
            self.events.append({"watch": 3, "index": 8, "component": "ab" * 20, **changed})
            return {"watch": 3, "snapshot": {"level": 3}, "index": 7}
        for number, state in enumerate(("initializing", "available")):
            event = {"watch": 3, "index": number, "event": "changed", "state": state}
            self.events.append({**event, "component": "ab" * 20, "time": 1_000.0})
        return {"watch": 3, "snapshot": None, "index": 0}

    def log_query(self, params: dict[str, Any]) -> Any:
        chosen = [r for r in self.records if self._asked(r, params)]
        return {"records": chosen[-params.get("limit", 1000) :]}

    def _asked(self, record: dict[str, Any], params: dict[str, Any]) -> bool:
        if params.get("component"):
            return bool(record["component"] == self.resolve(params["component"]))
        if params.get("group"):
            return record["component"] in self.members(params["group"])
        if params.get("type"):
            return bool(record["type"].startswith(params["type"]))
        return True

    def log_follow(self, params: dict[str, Any]) -> Any:
        found = self.log_query(params)["records"]
        for record in found:
            again = {**record, "message": f"new {record['message']}"}
            self.events.append({"watch": 4, "index": 0, "event": "record", "data": again})
        return {"watch": 4, "records": found}

    def bundle_list(self, _: dict[str, Any]) -> Any:
        return {"bundles": list(self.bundles.values())}

    def bundle_remove(self, params: dict[str, Any]) -> Any:
        if params["digest"] not in self.bundles:
            raise PlatformError("no-such-bundle")
        del self.bundles[params["digest"]]
        return {}

    def bundle_trust(self, params: dict[str, Any]) -> Any:
        self.trusted.append(params["public_key"])
        return {"key_id": "0123456789ABCDEF"}

    def bundle_begin(self, params: dict[str, Any]) -> Any:
        if params["digest"] in self.bundles:
            return {"present": True}
        self.uploads[1] = b""
        return {"present": False, "upload": 1}

    def bundle_append(self, params: dict[str, Any]) -> Any:
        assert params["offset"] == len(self.uploads[params["upload"]])
        self.uploads[params["upload"]] += params["data"]
        return {}

    def bundle_commit(self, params: dict[str, Any]) -> Any:
        data = self.uploads.pop(params["upload"])
        if not self.trusted or not params["signature"]:
            raise PlatformError("untrusted")
        if of(data) != params["digest"]:
            raise PlatformError("corrupt")
        self.bundles[params["digest"]] = {
            "digest": params["digest"],
            "size": len(data),
            "publisher": "0123456789ABCDEF",
            "types": [],
        }
        return {}

    # -- the wire --------------------------------------------------------------------------------

    def answer(self, request: dict[str, Any], binary: bool) -> dict[str, Any]:
        name, params = request["method"], request["params"]
        self.requests.append((name, params))
        base = {"jsonrpc": "2.0", "id": request["id"]}
        handler: Callable[[dict[str, Any]], Any] | None
        handler = getattr(self, name.replace(".", "_"), None)
        try:
            if handler is None or name not in BY_NAME:
                raise PlatformError("no-such-method", f"no method is called {name!r}")
            if self.without_leader:
                raise PlatformError("unavailable", "no leader is known")
            form = msgspec.msgpack if binary else msgspec.json
            form.decode(form.encode(params), type=BY_NAME[name].params)
            result = handler(params)
            checked = msgspec.json.encode(result)
            msgspec.json.decode(checked, type=BY_NAME[name].result, strict=True)
        except PlatformError as exc:
            return {**base, "error": exc.to_rpc()}
        return {**base, "result": result}

    def serve(self, sock: socket.socket) -> None:
        """One connection, in either form."""
        file = sock.makefile("rb")
        while head := file.peek(1)[:1]:
            binary = head != b"{"
            if binary:
                size = int.from_bytes(file.read(4), "big")
                request = msgpack.unpackb(file.read(size))
            else:
                request = json.loads(file.readline())
            if self.hang_up:
                sock.shutdown(socket.SHUT_RDWR)
                return
            values = [self.answer(request, binary)]
            values += [
                {"jsonrpc": "2.0", "method": "component.event", "params": e} for e in self.events
            ]
            self.events.clear()
            for value in values:
                body = msgpack.packb(value) if binary else json.dumps(value).encode() + b"\n"
                sock.sendall(len(body).to_bytes(4, "big") + body if binary else body)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: nothing of the developer's is read or written."""
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in (
        "PAAS_STATE",
        "PAAS_CONTEXT",
        "PAAS_NODE",
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "PAAS_DEBUG",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def state(places: Path) -> Path:
    """The state directory of a development cluster that seems to run here."""
    folder = places / "cluster"
    (folder / "agents").mkdir(parents=True)
    facts = {"name": "test", "runtime": str(folder), "pid": os.getpid(), "development": True}
    (folder / "cluster.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def hub(state: Path) -> Iterator[FakeHub]:
    """A running fake hub at the state's socket."""
    fake = FakeHub()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(state / "api.sock"))
    listener.listen()

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            fake.sockets.append(sock)
            threading.Thread(target=fake.serve, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    lock = take_lock(state)
    yield fake
    os.close(lock)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for sock in fake.sockets:
        sock.close()


Run = Callable[..., Done]


@pytest.fixture
def run(places: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command line without a cluster."""

    def run_(*words: str) -> Done:
        status = main(list(words))
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return run_


@pytest.fixture
def paas(run: Run, state: Path, hub: FakeHub) -> Run:
    """Run one command line on the fake hub's cluster."""
    return lambda *words: run("--state", str(state), *words)


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., None]:
    return eventually
