"""`paas app`: files to requests, steps to lines, ends to exit statuses.

Behind the socket are the real answers and the real reconciler, on components that are born at once.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.application.agent import Reconciler
from paas.application.api import Api
from paas.application.policy import POLICY
from paas.application.ports import Surroundings, TypeFacts
from paas.base.errors import PlatformError
from paas.bundle import messages as bundles
from paas.cli.main import main
from paas.cli.supervisor import take_lock
from paas.controller import messages as controller
from paas.controller.commands import RegisterType
from paas.gateway import rules
from paas.gateway.messages import Route
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Dispatcher, check_policy
from paas.rpc.peer import Sweeper
from paas.rpc.server import listen_unix, serve
from tests.unit.application.conftest import Cluster
from tests.unit.application.test_agent import Components, Ring, Routes, World


class Done:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Types(Components):
    """With the types of the cluster state."""

    def type(self, name: str) -> TypeFacts:
        types = self._world.cluster.controller.types
        kind = types.resolve(name)
        manifest = types.manifest(kind)
        return TypeFacts(kind.full_name, manifest.component.application, bool(manifest.volumes))


class RealRoutes(Routes):
    def check(self, route: Route) -> Route:
        return rules.check(route)


class Server(World):
    """One hub with applications, in a thread."""

    def __init__(self, cluster: Cluster, path: Path) -> None:
        super().__init__(cluster)
        self._path = path
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)

    def surroundings(self, node: str = "n1") -> Surroundings:
        return Surroundings(
            node=node,
            state=self.cluster.applications,
            log=self.cluster,
            components=Types(self),
            routes=RealRoutes(self),
            volumes=super().surroundings(node).volumes,
            ring=Ring(node),
            jitter=lambda: 0.5,
            on_trouble=lambda name, error: self.troubles.append(f"{name}: {error.code}"),
        )

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        bugs: list[Exception] = []
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            dispatcher = Dispatcher(
                nursery, SystemClock(), on_bug=lambda _method, exc: bugs.append(exc)
            )
            reconciler = Reconciler(self.surroundings())
            Api(self.surroundings(), reconciler).register(dispatcher)
            check_policy(dispatcher.methods(), POLICY)
            dispatcher.plain(
                bundles.BEGIN, lambda _params, _context: bundles.Begun(upload=0, present=True)
            )
            dispatcher.plain(controller.REGISTER_TYPE, self._register)
            dispatcher.plain(
                controller.TYPE,
                lambda params, _: self.cluster.controller.types.resolve(params.type).info(0),
            )
            await nursery.start(reconciler.run)
            sweeper = Sweeper()
            nursery.start_soon(sweeper.run)
            await nursery.start(
                partial(
                    serve, listen_unix(str(self._path)), dispatcher, sweeper, connections_max=20
                )
            )
            self._ready.set()
        if bugs:
            raise bugs[0]

    def _register(self, params: controller.RegisterType, _context: Any) -> controller.TypeName:
        order = RegisterType(bundle=params.bundle, manifest=params.manifest)
        return controller.TypeName(type=self.cluster.apply(order)["type"])

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "cluster"
    (folder / "agents").mkdir(parents=True)
    facts = {"name": "test", "runtime": str(folder), "pid": os.getpid(), "development": True}
    (folder / "cluster.json").write_text(json.dumps(facts))
    lock = take_lock(folder)
    made = Server(cluster, folder / "api.sock")
    made.start()
    yield made
    made.stop()
    os.close(lock)


Paas = Callable[..., Done]


@pytest.fixture
def paas(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Paas:
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("PAAS_STATE", str(tmp_path / "cluster"))

    def run(*words: str) -> Done:
        status = main(["app", *words])
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return run


SHOP = """\
[application]
name = "shop"
version = "1.0"
[roles.web]
type = "web@1"
count = 2
depends = ["store"]
[roles.store]
type = "store"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "application.toml"
    path.write_text(SHOP)
    return path


def test_a_deploy_prints_a_line_a_step_and_the_end(paas: Paas, file: Path) -> None:
    done = paas("deploy", str(file))
    assert done.status == 0, done.err
    assert "shop 1.0  revision 1  3/3 available in " in done.out
    lines = [line for line in done.err.splitlines() if "available shop-" in line]
    assert len(lines) == 3
    assert "shop-store-1 store@2 on n1 in " in lines[0]
    again = paas("deploy", str(file.parent), "-o", "json")
    assert (again.status, again.json["revision"]) == (0, 1)
    assert "nothing is different" in again.err


def test_a_plan_prints_numbered_steps_and_does_nothing(
    paas: Paas, file: Path, server: Server
) -> None:
    done = paas("deploy", str(file), "--plan")
    assert done.out.splitlines()[0] == "   1  + create         shop-store-1  (0 of 1 are there)"
    assert done.out.splitlines()[-1] == "shop (new): 3 steps"
    assert server.cluster.applications.applications == {}
    assert paas("deploy", str(file), "--plan", "-o", "name").out.split()[0] == "shop-store-1"


def test_a_source_is_pushed_as_a_part_of_the_application(
    paas: Paas, file: Path, server: Server
) -> None:
    source = file.parent / "front"
    source.mkdir()
    text = '[component]\nname = "front"\nversion = "1.0.0"\ncommand = ["./run"]\n'
    (source / "component.toml").write_text(text)
    volume = 'volume = { path = "/data", size = "8M" }'
    file.write_text(
        f'{SHOP}[roles.front]\nsource = "front"\n{volume}\n[routes.r]\ngroup = "front"\n'
    )
    planned = paas("deploy", str(file), "--plan")
    assert "would push front@1.0.0 from " in planned.err
    assert "create         shop-front-1" in planned.out
    with pytest.raises(PlatformError):
        server.cluster.controller.types.resolve("front")
    done = paas("deploy", str(file))
    assert done.status == 0, done.err
    assert "pushed front@1.0.0  (was there already)" in done.err
    manifest = server.cluster.controller.types.resolve("front").manifest
    assert manifest["component"]["application"] == "shop"
    assert manifest["volumes"]["data"]["size"] == 8 << 20
    assert list(server.there) == ["shop.r"]
    planned = paas("deploy", str(file), "--plan", "-o", "json")
    assert (planned.json["changed"], planned.json["steps"], planned.err) == (False, [], "")
    (source / "component.toml").write_text(text + 'application = "other"\n')
    refused = paas("deploy", str(file))
    assert refused.status == 2
    assert "roles.front.source: component.application is 'other', not 'shop'" in refused.err


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("deploy", "{folder}/nothing.toml"), 2, "No such file"),
        (("status", "nowhere"), 3, "no application is called 'nowhere'"),
        (("scale", "shop", "web"), 2, "expected ROLE=N"),
        (("scale", "shop", "web=1", "web=2"), 2, "two numbers"),
        (("scale", "shop", "web=-1"), 2, "expected ROLE=N"),
        (("scale", "shop", "wbe=1"), 2, "counts.wbe: no such role; there are web, store"),
        (("deploy", "{folder}", "--if-revision", "7"), 5, "revision 1, not 7"),
        (("destroy", "nowhere", "--yes"), 3, "nowhere"),
    ],
)
def test_what_goes_wrong_has_a_status_and_a_reason(
    paas: Paas, file: Path, words: tuple[str, ...], status: int, text: str
) -> None:
    paas("deploy", str(file))
    done = paas(*(word.format(folder=file.parent) for word in words))
    assert done.status == status
    assert text in done.err
    assert done.out == ""


def test_what_the_hub_refuses_is_said_of_the_file(paas: Paas, file: Path) -> None:
    file.write_text(SHOP.replace("web@1", "wbe@1"))
    done = paas("deploy", str(file))
    assert done.status == 3
    assert f"{file}: roles.web.type: no component type is called 'wbe@1'" in done.err
    file.write_text(f'{SHOP}[routes.r]\ngroup = "others"\npath = "/.."\n')
    done = paas("deploy", str(file))
    assert done.status == 2
    assert f"{file}: routes.r.path: expected" in done.err
    file.write_text(f'{SHOP}[routes.r]\ngroup = "web"\n')
    assert "is of the application default" in paas("deploy", str(file)).err


def test_scale_stop_start_destroy(paas: Paas, file: Path, server: Server) -> None:
    paas("deploy", str(file))
    assert "5/5 available" in paas("scale", "shop", "web=4").out
    planned = paas("scale", "shop", "web=1", "--plan").out
    assert re.match(r"   1  - end            shop-web-[34]  \(1 are wanted\)\n", planned)
    done = paas("stop", "shop")
    assert "stopped shop 1.0  revision 3  0/0 available" in done.out
    assert "shop-web-4 in " in done.err
    assert "5/5" in paas("start", "shop").out
    assert paas("destroy", "shop", "--dry-run").out.splitlines()[-1].endswith("5 steps")
    done = paas("destroy", "shop", "--yes")
    assert done.status == 0, done.err
    assert "shop destroyed in" in done.out
    assert server.cluster.applications.applications == {}
    assert paas("list", "-o", "json").json == {"applications": []}


def test_lists_and_status(paas: Paas, file: Path) -> None:
    paas("deploy", str(file))
    assert "shop  1.0" in paas("list").out
    text = paas("status", "shop").out
    for words in ("web@1", "2/2", "shop-web-2", "decided on n1"):
        assert words in text
    found = paas("status", "shop", "-o", "json").json
    assert (found["state"], found["settled"]) == ("available", True)
    assert found["deployed_time"].endswith("Z")


def test_without_waiting_it_returns_at_once(paas: Paas, file: Path, server: Server) -> None:
    server.slow_s = 2.0
    began = time.monotonic()
    done = paas("deploy", str(file), "--no-wait")
    assert (done.status, done.out) == (0, "shop revision 1: 3 steps to do\n")
    assert time.monotonic() - began < 2.0


def test_the_time_is_over(paas: Paas, file: Path, server: Server) -> None:
    server.is_born = False
    done = paas("deploy", str(file), "--timeout", "0.5s")
    assert done.status == 7
    assert "waits for role store: 0 of 1 are available" in done.err


def test_a_member_that_fails_ends_the_waiting(paas: Paas, file: Path, server: Server) -> None:
    server.is_born = False
    paas("deploy", str(file), "--no-wait")
    deadline = time.monotonic() + 20
    while not server.cluster.shop.members:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (component,) = server.cluster.shop.members
    server.cluster.change(component, "exited", "exit:3", fatal=True)
    server.cluster.change(component, "give_up")
    server.reasons[component] = "exit:3"
    done = paas("deploy", str(file))
    assert done.status == 1
    assert "shop-store-1: exit:3" in done.err


def test_a_reason_that_stays_is_told_with_its_own_status(
    paas: Paas, file: Path, server: Server
) -> None:
    server.error = PlatformError("no-placement", "no node has room")
    done = paas("deploy", str(file), "--timeout", "1s")
    assert done.status == 8
    assert "shop-store-1: no node has room" in done.err
