"""While nodes are cut off, killed and paused at random: what clients saw is linearizable.

Six components in turn join and leave three groups, and claim a group that has room for one; two
operators create components under few names and destroy them again; all from whichever hub they
meet.  `paas.sim.history` then looks for an order of the operations that explains all answers.

A component whose node is lost leaves its groups, and its next life is another member; so the end of
a life is a leave of unknown time in every group that it may have been in.  A change whose answer
was lost is repeated under its request id until there is one (names), or stays of unknown outcome
(groups).
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.sim.history import Answer, History, Operation
from paas.sim.models import Claim, Group
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ACTOR = "actor@1.0.0"
SEED = 3
FAULTS_S = 20.0
OPERATIONS_MIN = 150
FAULTS_MIN = 5
TIMEOUT_S = 3.0
NAMES = ("anna", "ben", "carl")
GROUPS = ("red", "green")
CERTAIN = ("unavailable", "not-available", "denied", "no-such-target", "limit-exceeded")
"""Errors that say that nothing was done, when the hub of the caller gives them."""


class Recorder:
    """The history, written by several threads."""

    def __init__(self) -> None:
        self.history = History()
        self._lock = threading.Lock()

    def begin(self, client: str, kind: str, key: str, argument: str) -> Operation:
        with self._lock:
            return self.history.begin(client, kind, key, argument, now_s=time.monotonic())

    def finish(self, operation: Operation, result: Any) -> None:
        with self._lock:
            self.history.finish(operation, result, now_s=time.monotonic())

    def withdraw(self, operation: Operation) -> None:
        with self._lock:
            self.history.withdraw(operation)

    @property
    def finished(self) -> list[Operation]:
        return [one for one in self.history.operations if one.return_s is not None]


class Client:
    """Asks one hub after the other."""

    def __init__(self, cluster: DevCluster, recorder: Recorder, name: str, seed: int) -> None:
        self.name = name
        self.random = random.Random(seed)
        self.recorder = recorder
        self._cluster = cluster
        self._connection: Connection | None = None

    def ask(self, method: str, **params: Any) -> Any:
        """Raises `unknown-outcome` when the answer may have been lost on the way to us."""
        if self._connection is None or self.random.random() < 0.1:
            self.close()
            node = self.random.choice(self._cluster.names)
            socket = self._cluster.socket(node)
            self._connection = connect(socket, expected=False, timeout_s=TIMEOUT_S)
            self._connection.patience_s = TIMEOUT_S + 1.0
        try:
            return self._connection.call(method, params, timeout_s=TIMEOUT_S, changes=True)
        except PlatformError as error:
            if error.code not in ("conflict", "no-such-target"):
                self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Member(Client):
    """Has a component join and leave groups."""

    def __init__(self, cluster: DevCluster, recorder: Recorder, component: str, seed: int) -> None:
        super().__init__(cluster, recorder, component[-6:], seed)
        self._component = component
        self._life = ""
        self._alive_s = time.monotonic()
        self._in_doubt = False
        """Something that it asked for in this life may yet be done."""
        self._perhaps_in: dict[tuple[str, str], None] = {}

    def step(self) -> None:
        if not self._life:
            answer = self.ask("hub.call", target=self._component, operation="who")
            self._life, self._alive_s = answer["outputs"]["life"], time.monotonic()
        claims = self.random.random() < 0.3
        group = "throne" if claims else self.random.choice(GROUPS)
        joins = self.random.random() < 0.6
        kind = ("claim" if claims else "join") if joins else ("release" if claims else "leave")
        key = f"{'claim' if claims else 'group'}/{group}"
        operation = self.recorder.begin(self.name, kind, key, self._life)
        if joins:
            self._perhaps_in[key, "release" if claims else "leave"] = None
        method = "hub.join" if joins else "hub.leave"
        params: dict[str, Any] = {"groups": [group]}
        if joins:
            params["unique"] = claims
        try:
            answer = self.ask(
                "hub.call",
                target=self._component,
                operation="ask",
                inputs={"life": self._life, "method": method, "params": params},
            )["outputs"]
        except PlatformError as error:
            if error.code in CERTAIN:
                self.recorder.withdraw(operation)
            else:
                self._in_doubt = True
            time.sleep(0.1)
            return
        self._judge(operation, group, answer)

    def _judge(self, operation: Operation, group: str, answer: dict[str, Any]) -> None:
        error = answer.get("error")
        if error is None:
            self.recorder.finish(operation, _result(operation.kind, group, answer["result"]))
            if operation.kind in ("leave", "release") and not self._in_doubt:
                self._perhaps_in.pop((operation.key, operation.kind), None)
        elif error == "conflict" and operation.kind == "claim":
            self.recorder.finish(operation, False)
        else:
            if error in CERTAIN or error == "another-life":
                self.recorder.withdraw(operation)
            else:
                self._in_doubt = True
            if error == "another-life":
                self._buried()
            return
        self._alive_s = time.monotonic()

    def _buried(self) -> None:
        """That life is over, since some time after it last answered."""
        for key, kind in self._perhaps_in:
            lost = self.recorder.begin(self.name, kind, key, self._life)
            lost.call_s = self._alive_s
        self._life, self._in_doubt = "", False
        self._perhaps_in.clear()

    def settle(self) -> None:
        """At the end: is it still the same life?"""
        answer = self.ask("hub.call", target=self._component, operation="who")
        if self._life and answer["outputs"]["life"] != self._life:
            self._buried()


def _result(kind: str, group: str, result: dict[str, Any]) -> Any:
    if kind == "join":
        return result["positions"][group], result["members"][group], result["token"][group]
    return True if kind == "claim" else None


class Operator(Client):
    """Creates components under names that others want too, and destroys them again."""

    def __init__(self, cluster: DevCluster, recorder: Recorder, name: str, seed: int) -> None:
        super().__init__(cluster, recorder, name, seed)
        self._number = 0
        self._held: dict[str, tuple[str, str]] = {}

    def step(self) -> None:
        name = self.random.choice(NAMES)
        if name in self._held:
            owner, component = self._held.pop(name)
            operation = self.recorder.begin(self.name, "release", f"claim/name-{name}", owner)
            self._until_known("controller.destroy", component=component, grace=0.0)
            self.recorder.finish(operation, None)
            return
        self._number += 1
        owner = f"{SEED}-{self.name}-{self._number}"
        operation = self.recorder.begin(self.name, "claim", f"claim/name-{name}", owner)
        made = self._until_known(
            "controller.create", type=ACTOR, name=name, wait="accepted", request_id=owner
        )
        self.recorder.finish(operation, made is not None)
        if made is not None:
            self._held[name] = owner, made["components"][0]

    def _until_known(self, method: str, **params: Any) -> dict[str, Any] | None:
        """Repeat it until the answer is certain; None: refused."""
        while True:
            try:
                found: dict[str, Any] = self.ask(method, **params)
            except PlatformError as error:
                if error.code == "conflict":
                    return None
                if error.code == "no-such-target":
                    return {}
                time.sleep(0.1)
            else:
                return found


def hurt(cluster: DevCluster, dice: random.Random, until_s: float) -> list[str]:
    """One fault after the other, for so long and until there were enough; what they were."""
    done: list[str] = []
    kinds = itertools.cycle(dice.sample(["cut", "deaf", "hub", "off", "asleep"], 5))
    while time.monotonic() < until_s or len(done) < FAULTS_MIN:
        kind, node = next(kinds), dice.choice(cluster.names)
        others = ",".join(name for name in cluster.names if name != node)
        for_s = dice.uniform(0.5, 3.0)
        match kind:
            case "cut":
                cluster.partition(f"{node}|{others}")
                time.sleep(for_s)
                cluster.heal()
            case "deaf":
                cluster.partition(f"{others}|{node}", one_way=True)
                time.sleep(for_s)
                cluster.heal()
            case "hub":
                if "hub" in cluster.agents(node):
                    cluster.kill_agents(node, "hub")
            case "off":
                cluster.kill(node)
                cluster.resume(node)
            case _:
                cluster.pause(node)
                time.sleep(for_s)
                cluster.resume(node)
        done.append(f"{kind} {node}")
        time.sleep(dice.uniform(0.2, 1.0))
    return done


def test_what_clients_saw_is_linearizable(
    cluster: DevCluster, record_property: Callable[[str, object], None]
) -> None:
    recorder, stop = Recorder(), threading.Event()
    components = [
        cluster.create(ACTOR, constraints=[f"node={node}"] if number % 2 else [])
        for number, node in enumerate(2 * cluster.names)
    ]
    clients: list[Any] = [
        *(Member(cluster, recorder, c, SEED + n) for n, c in enumerate(components)),
        *(Operator(cluster, recorder, f"op{n}", SEED + 100 + n) for n in range(2)),
    ]
    bugs: list[BaseException] = []

    def run(step: Callable[[], None]) -> None:
        while not stop.is_set():
            try:
                step()
            except PlatformError:
                time.sleep(0.1)
            except BaseException as exc:
                bugs.append(exc)
                raise
            time.sleep(0.03)

    threads = [threading.Thread(target=run, args=(client.step,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        faults = hurt(cluster, random.Random(SEED), time.monotonic() + FAULTS_S)
        cluster.calm()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not bugs
    assert not any(thread.is_alive() for thread in threads)
    for client in clients:
        if isinstance(client, Member):
            cluster.until(lambda client=client: client.settle() is None)
        client.close()
    finished = recorder.finished
    assert len(finished) >= OPERATIONS_MIN, f"seed {SEED}: only {len(finished)}"
    assert len(faults) >= FAULTS_MIN, f"seed {SEED}: only {faults}"
    assert len({operation.kind for operation in finished}) == 4
    verdict = recorder.history.check({"group": Group(), "claim": Claim()})
    assert verdict.ok, f"seed {SEED}, {faults}: {verdict}"
    assert _blames_a_wrong_answer(recorder.history)
    record_property("operations", len(finished))
    record_property("faults", faults)


def _blames_a_wrong_answer(history: History) -> bool:
    """The proof that the search looks: with one answer changed, there is no such order."""
    joins = [one for one in history.operations if one.kind == "join" and one.return_s is not None]
    one = joins[len(joins) // 2]
    position, members, token = one.result
    one.result = position, members + 3, token
    verdict = history.check({"group": Group(), "claim": Claim()})
    return verdict.answer is Answer.VIOLATED and verdict.key == one.key
