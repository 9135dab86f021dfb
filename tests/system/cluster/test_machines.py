"""Machines of a development cluster: what they see, and what kill, pause and partition do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.cli import machines, partition
from paas.cli.machine_record import Machine, read
from paas.real import kernel_machine

from .conftest import Machines, alive, processes_of, tables, until

pytestmark = pytest.mark.system


def test_a_machine_sees_its_own_processes_host_name_and_link_only(lab: Machines) -> None:
    (one,) = lab.start(1)
    seen = lab.seen(one)
    assert seen["pid"] == 1
    assert seen["host"] == "n1"
    assert sorted(seen["processes"]) == [1, seen["child"]]
    assert {"lo", "eth0"} <= set(seen["links"])
    assert lab.bridge not in seen["links"]
    assert socket.gethostname() != "n1"


def test_what_a_machine_mounts_is_not_mounted_elsewhere(lab: Machines) -> None:
    (one,) = lab.start(1)
    assert not os.path.ismount(one.state / "mnt")
    inside = Path(f"/proc/{one.pid}/mountinfo").read_text()
    assert f"{one.state}/mnt" in inside


def test_machines_reach_each_other_by_their_addresses(lab: Machines) -> None:
    first, second, third = lab.start(1, 2, 3)
    assert first.address.endswith(".1")
    assert lab.hears(first, second)
    assert lab.hears(second, third)
    assert lab.hears(third, first)


def test_nothing_of_a_killed_machine_goes_on(lab: Machines) -> None:
    (one,) = lab.start(1)
    everything = processes_of(one)
    assert len(everything) == 2
    assert machines.kill(one)
    assert not any(alive(pid) for pid in everything)
    assert one.condition == "off"
    until(lambda: one.link not in os.listdir("/sys/class/net"), "the link stays")
    assert not machines.kill(one)


def test_a_number_that_is_somebody_elses_by_now_is_left_alone(lab: Machines) -> None:
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        made = lab.made(1)
        record = Machine(**{**_fields(made), "pid": bystander.pid, "ticks": 1})
        assert record.condition == "off"
        assert not machines.kill(record)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_killed_machine_is_switched_on_again_with_its_address(lab: Machines) -> None:
    first, second = lab.start(1, 2)
    machines.kill(second)
    (again,) = lab.start(2)
    assert again.pid != second.pid
    assert again.address == second.address
    assert lab.hears(first, again)


def test_a_machine_that_is_on_is_not_switched_on_twice(lab: Machines) -> None:
    lab.start(1)
    with pytest.raises(PlatformError) as caught:
        lab.boot(1)
    assert caught.value.code == "conflict"


def test_a_machine_killed_while_it_starts_says_nothing_and_leaves_nothing(lab: Machines) -> None:
    (lab.made(1).state / "hangs").touch()
    booting = lab.boot(1)
    booting.go()
    assert booting.machine.condition == "running"
    assert machines.kill(booting.machine)
    assert os.read(booting.ready, 100) == b""
    booting.close()
    assert not alive(booting.machine.pid or 0)


def test_a_machine_whose_gate_is_closed_ends(lab: Machines) -> None:
    booting = lab.boot(1)
    booting.close()
    until(lambda: booting.machine.condition == "off", "it waits at a closed gate")
    with pytest.raises(PlatformError) as caught:
        booting.go()
    assert caught.value.code == "failed"


def test_a_paused_machine_stands_still_and_goes_on(lab: Machines) -> None:
    first, second = lab.start(1, 2)
    machines.pause(second)
    assert second.condition == "paused"
    assert {_state(pid) for pid in processes_of(second)} == {"T"}
    assert not lab.hears(first, second)
    machines.pause(second)
    machines.resume(second)
    assert second.condition == "running"
    assert "T" not in {_state(pid) for pid in processes_of(second)}
    assert lab.hears(first, second)
    machines.resume(second)


def test_a_paused_machine_can_be_killed(lab: Machines) -> None:
    (one,) = lab.start(1)
    machines.pause(one)
    assert machines.kill(one)
    assert one.condition == "off"


def test_a_machine_that_is_off_cannot_be_paused(lab: Machines) -> None:
    (one,) = lab.start(1)
    machines.kill(one)
    with pytest.raises(PlatformError) as caught:
        machines.pause(one)
    assert caught.value.code == "refused"


def test_a_partition_keeps_the_sides_apart_and_healing_joins_them(lab: Machines) -> None:
    nodes = _cut(lab, "n1|n2,n3", one_way=False)
    first, second, third = nodes
    assert not lab.arrives(first, second)
    assert not lab.arrives(second, first)
    assert not lab.hears(first, third)
    assert lab.hears(second, third)
    healed = [machines.set_unheard(node, ()) for node in nodes]
    assert lab.hears(first, second)
    assert lab.hears(third, first)
    assert all("paas-partition" not in tables(node) for node in healed)


def test_a_one_way_cut_drops_one_direction(lab: Machines) -> None:
    first, second, third = _cut(lab, "n1|n2", one_way=True)
    assert not lab.arrives(first, second)
    assert lab.arrives(second, first)
    assert lab.hears(first, third)


def test_the_same_partition_twice_is_one_and_another_replaces_it(lab: Machines) -> None:
    first, second, third = _cut(lab, "n1|n2", one_way=False)
    first = machines.set_unheard(first, first.unheard)
    assert tables(first).count("drop") == 1
    first = machines.set_unheard(first, (third.address,))
    second = machines.set_unheard(second, ())
    assert lab.hears(first, second)
    assert not lab.arrives(third, first)


def test_a_machine_that_is_switched_on_again_is_still_cut_off(lab: Machines) -> None:
    first, second = lab.start(1, 2)
    machines.kill(second)
    machines.set_unheard(second, (first.address,))
    (again,) = lab.start(2)
    assert again.unheard == (first.address,)
    assert not lab.arrives(first, again)
    assert lab.arrives(again, first)


def test_the_record_says_where_the_machine_is(lab: Machines) -> None:
    (one,) = lab.start(1)
    record = read(one.state)
    assert record == one
    text = (one.state / "machine.json").read_text()
    assert f"/proc/{one.pid}/ns/net" in text


def test_an_orderly_stop_ends_a_paused_machine_too(lab: Machines) -> None:
    (one,) = lab.start(1)
    machines.pause(one)
    machines.ask_to_end(one)
    assert machines.wait_end(one, 20.0)
    assert one.condition == "off"


def test_a_program_on_a_machines_network_has_its_address(lab: Machines) -> None:
    (one,) = lab.start(1)
    done = machines.start_inside(one, ["ip", "-o", "-4", "addr", "show", "eth0"])
    assert one.address in done.communicate()[0]
    assert done.returncode == 0


def test_what_cannot_be_executed_is_said(lab: Machines, tmp_path: Path) -> None:
    made = lab.made(1)
    program = kernel_machine.Program(["/nowhere"], {}, str(tmp_path / "no" / "log"))
    with pytest.raises(OSError, match="No such file"):
        kernel_machine.start(made.name, program)


def _cut(lab: Machines, groups: str, *, one_way: bool) -> list[Machine]:
    """Three machines of which some do not hear others."""
    nodes = {node.name: node for node in lab.start(1, 2, 3)}
    unheard = partition.deaf(groups, one_way, list(nodes))
    return [
        machines.set_unheard(node, tuple(nodes[other].address for other in unheard[name]))
        for name, node in nodes.items()
    ]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _fields(machine: Machine) -> dict[str, object]:
    return {name: getattr(machine, name) for name in machine.__dataclass_fields__}


def test_signals_that_the_caller_ignores_reach_a_machine(lab: Machines) -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        (one,) = lab.start(1)
    finally:
        signal.signal(signal.SIGTERM, previous)
    machines.ask_to_end(one)
    assert machines.wait_end(one, 20.0)
