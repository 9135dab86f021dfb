"""nodes and members; which of several nodes answers a command."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from paas.base.errors import Exit, PlatformError
from paas.cli import place
from paas.cli.machine_record import Machine, process_state, read, write
from paas.cli.session import Session
from paas.cli.supervisor import write_cluster


def test_nodes_are_listed_with_role_address_and_state(paas, hub):
    hub.nodes = ["n1", "n2"]
    found = paas("nodes", "-o", "json").json()["nodes"]
    assert [(n["name"], n["role"]) for n in found] == [("n1", "leader"), ("n2", "voter")]
    assert "10.130.0.2:7420" in paas("nodes").out
    assert paas("nodes", "-o", "name").out == "n1\nn2\n"


def test_a_node_is_described(paas, hub):
    assert "leader" in paas("nodes", "show", "n1").out
    assert paas("nodes", "show", "n1", "-o", "json").json()["name"] == "n1"
    assert paas("nodes", "show", "n7").status == Exit.NOT_FOUND


def test_a_full_disk_is_shown(paas, hub):
    hub.nodes, hub.full = ["n1", "n2"], {"n2"}
    first, second = [line for line in paas("nodes").out.splitlines() if line.startswith("n")]
    assert "disk full" not in first
    assert "(disk full)" in second
    hub.cordoned.add("n2")
    assert "(cordoned, disk full)" in paas("nodes", "show", "n2").out
    assert "storage    full" in paas("nodes", "show", "n2").out
    assert paas("nodes", "show", "n1", "-o", "json").json()["storage"] == "ok"


def test_cordon_and_uncordon_say_what_they_do(paas, hub):
    assert "no new components" in paas("nodes", "cordon", "n1", "--reason", "disk").out
    assert hub.sent("nodes.cordon")[0]["reason"] == "disk"
    assert "(cordoned)" in paas("nodes").out
    assert paas("nodes", "uncordon", "n1", "-o", "json").json()["cordoned"] is False


def test_a_drain_that_is_not_done_yet_ends_with_its_own_status(paas, hub):
    assert paas("nodes", "drain", "n1", "--grace", "2s").status == 0
    assert hub.sent("nodes.drain")[0]["grace"] == 2.0
    component = hub.add_component("hello@1.0.0")
    done = paas("nodes", "drain", "n1")
    assert done.status == Exit.PENDING
    assert component[:8] in done.out
    assert "still being drained" in done.err


def test_a_node_is_removed_by_either_word(paas, hub):
    hub.nodes = ["n1", "n2", "n3"]
    assert "would remove n2" in paas("nodes", "remove", "n2", "--dry-run").out
    assert paas("nodes", "remove", "n2").status == 0
    assert paas("cluster", "members", "remove", "n3").status == 0
    assert hub.nodes == ["n1"]


def test_a_removal_that_is_refused_can_be_forced(paas, hub):
    hub.nodes = ["n1", "n2"]
    hub.add_component("hello@1.0.0")
    assert paas("nodes", "remove", "n2").status == Exit.FAILED
    assert paas("nodes", "remove", "n2", "--force", "--yes").status == 0


def test_members_of_the_log_and_what_is_about_to_change(paas, hub):
    hub.nodes = ["n1", "n2"]
    done = paas("cluster", "members")
    assert "leader" in done.out
    assert "n3 becomes a voter" in done.err
    assert paas("cluster", "members", "-o", "name").out == "n1\nn2\n"


def test_how_many_vote_can_be_said(paas, hub):
    hub.nodes = ["n1", "n2", "n3"]
    done = paas("cluster", "voters", "7")
    assert "7 nodes are to vote" in done.out
    assert hub.sent("cluster.want_voters")[0]["voters"] == 7
    assert paas("cluster", "voters", "many").status == Exit.USAGE


def test_a_token_is_printed_alone_and_where_it_is_for_beside_it(paas, hub):
    done = paas("cluster", "token", "--ttl", "1h")
    assert done.out == "paas1-secret\n"
    assert "10.130.0.1:7421" in done.err
    assert hub.sent("cluster.create_token")[0]["ttl"] == 3600.0


def test_tokens_are_listed_and_revoked(paas, hub):
    hub.tokens = {"aa11": "made", "bb22": "used"}
    out = paas("cluster", "token", "--list").out
    assert "aa11" in out
    assert "used" in out
    assert "n2" in out
    assert paas("cluster", "token", "--list", "-o", "name").out == "aa11\nbb22\n"
    assert paas("cluster", "token", "--revoke", "aa11").out.endswith("lets nobody in any more\n")
    assert "n2 has used it" in paas("cluster", "token", "--revoke", "bb22").out
    assert paas("cluster", "token", "--revoke", "cc33").status == Exit.NOT_FOUND
    assert hub.sent("cluster.revoke_token")[0]["token"] == "aa11"
    assert not hub.sent("cluster.create_token")


@pytest.mark.parametrize("more", [("--ttl", "1h"), ("--revoke", "aa11")])
def test_a_token_is_made_or_listed_or_revoked(paas, hub, more):
    done = paas("cluster", "token", "--list", *more)
    assert done.status == Exit.USAGE
    assert "one of --ttl, --list and --revoke" in done.err


def test_a_stale_answer_is_marked(paas, hub):
    hub.stale = 12.4
    done = paas("nodes", "-o", "json")
    assert "12 s old" in done.err
    assert done.json()["nodes"]
    hub.stale = None
    assert paas("nodes").err == ""


@pytest.mark.parametrize("verb", ["kill", "pause", "resume"])
def test_faults_are_for_machines_that_we_made(paas, verb):
    done = paas("nodes", verb, "n1")
    assert done.status == Exit.FAILED
    assert "dev --nodes 3" in done.err


# -- several nodes -------------------------------------------------------------------------------


class Several:
    """A cluster of three nodes; this process seems to be each machine that is on."""

    def __init__(self, folder, hub) -> None:
        self.state = folder / "several"
        self.hub = hub
        self.listeners: list[socket.socket] = []
        for name in ("n1", "n2", "n3"):
            node = self.state / "nodes" / name
            (node / "agents").mkdir(parents=True)
            write_cluster(node, pid=None, node_pid=None, name="lab")
            file = node / place.CLUSTER_FILE
            plain = {**json.loads(file.read_text()), "runtime": str(node)}
            file.write_text(json.dumps(plain))
            write(Machine(name, node, "10.130.0.1", 24, "pmx", f"pmx{name}"))
        nodes = {name: {} for name in ("n1", "n2", "n3")}
        write_cluster(self.state, pid=None, node_pid=None, name="lab", nodes=nodes)

    def switch_on(self, name: str) -> None:
        machine = read(self.state / "nodes" / name)
        pid = os.getpid()
        ticks = process_state(pid)[1]
        write(Machine(**{**_fields(machine), "pid": pid, "ticks": ticks}))

    def listen(self, name: str, hub=None) -> None:
        """Let a hub answer at the node's socket."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.state / "nodes" / name / "api.sock"))
        listener.listen()
        self.listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=(hub or self.hub).serve, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()


def _fields(machine: Machine) -> dict[str, object]:
    return {name: getattr(machine, name) for name in machine.__dataclass_fields__}


@pytest.fixture
def several(places, hub):
    one = Several(places, hub)
    yield one
    for listener in one.listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_the_first_node_that_runs_answers(run, several):
    several.switch_on("n2")
    several.listen("n2")
    several.listen("n1")
    done = run("nodes", "--state", str(several.state), "-o", "name")
    assert (done.status, done.out) == (0, "n1\n")


def test_a_node_that_refuses_is_passed_over_at_once(run, several):
    for name in ("n1", "n3"):
        several.switch_on(name)
    several.listen("n3")
    begun = time.monotonic()
    assert run("status", "--state", str(several.state)).status == 0
    assert time.monotonic() - begun < 4.0


def test_when_no_node_answers_the_error_names_what_was_tried(run, several):
    several.switch_on("n3")
    done = run("status", "--state", str(several.state), "--node", "n2")
    assert done.status == Exit.UNREACHABLE
    assert "n2 is off" in done.err
    assert "n3" not in done.err


def test_a_node_can_be_insisted_on(run, several, monkeypatch):
    for name in ("n1", "n2"):
        several.switch_on(name)
    several.listen("n1")
    several.listen("n2")
    state = ("--state", str(several.state))
    assert run("status", *state, "--node", "n2").status == 0
    assert run("status", *state, "--node", "n9").status == Exit.USAGE
    monkeypatch.setenv("PAAS_NODE", "n3")
    done = run("status", *state)
    assert done.status == Exit.UNREACHABLE
    assert "n3 is off" in done.err


def test_a_node_without_a_leader_is_passed_over_for_one_that_has(run, several, hub):
    cut_off = type(hub)(without_leader=True)
    for name in ("n1", "n2"):
        several.switch_on(name)
    several.listen("n1", cut_off)
    several.listen("n2")
    state = ("--state", str(several.state))
    assert run("nodes", "cordon", "n1", *state).status == 0
    assert [name for name, _ in cut_off.requests] == ["nodes.cordon"]
    assert run("nodes", "cordon", "n1", *state, "--node", "n1").status == Exit.UNREACHABLE


def test_after_the_first_answer_the_node_stays_the_same(several, hub):
    failing = type(hub)()
    for name in ("n1", "n2"):
        several.switch_on(name)
    several.listen("n1", failing)
    several.listen("n2")
    with Session(state=str(several.state)) as session:
        session.call("cluster.status")
        failing.without_leader = True
        with pytest.raises(PlatformError) as caught:
            session.call("cluster.status")
    assert caught.value.code == "unavailable"
    assert hub.requests == []


def test_a_record_names_a_process_by_number_and_start_time(several):
    several.switch_on("n1")
    machine = read(several.state / "nodes" / "n1")
    assert machine.condition == "running"
    assert Machine(**{**_fields(machine), "ticks": 1}).condition == "off"
    assert Machine(**{**_fields(machine), "pid": None}).condition == "off"


def test_a_record_that_is_not_one_is_said_to_be_corrupt(several):
    (several.state / "nodes" / "n1" / "machine.json").write_text('{"name": 1}')
    with pytest.raises(PlatformError) as caught:
        read(several.state / "nodes" / "n1")
    assert caught.value.code == "corrupt"
