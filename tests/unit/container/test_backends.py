"""Back ends: the file that LXC reads, the program that it starts, and who is asked to launch."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.container.backends import holder, launchers, lxc_config
from paas.container.messages import BACK_ENDS, BackEnd
from paas.container.plan import LaunchOrder


def pairs(text: str) -> list[tuple[str, str]]:
    found = []
    for line in text.splitlines():
        key, _, value = line.partition(" = ")
        found.append((key.strip(), value))
    return found


def test_the_configuration_leaves_lxc_nothing_to_add() -> None:
    found = pairs(lxc_config.config("kettle", 700_000, 65_536))
    settings = dict(found)
    assert settings["lxc.uts.name"] == "kettle"
    maps = [value for key, value in found if key == "lxc.idmap"]
    assert maps == ["u 0 700000 65536", "g 0 700000 65536"]
    assert settings["lxc.cap.keep"] == "none"
    assert settings["lxc.no_new_privs"] == "1"
    for key in ("lxc.autodev", "lxc.tty.max", "lxc.pty.max"):
        assert settings[key] == "0"
    assert settings["lxc.mount.auto"] == "", "what it mounts by itself could uncover what is hidden"
    assert settings["lxc.console.path"] == "none"


def test_what_lxc_is_given_it_is_given_by_descriptor() -> None:
    settings = dict(pairs(lxc_config.config("kettle", 700_000, 65_536)))
    numbers = (lxc_config.NETWORK_FD, lxc_config.PID_FD, lxc_config.PROGRAM_FD)
    keys = ("lxc.namespace.share.net", "lxc.namespace.share.pid", "lxc.init.cmd")
    assert [settings[key] for key in keys] == [f"/proc/self/fd/{n}" for n in numbers]
    used = {0, 1, 2, holder.READY_FD, lxc_config.CONFIG_FD, *numbers}
    assert len(used) == 8, "no two of them are the same"


def test_no_value_can_begin_a_line_of_its_own() -> None:
    with pytest.raises(ValueError, match="end of a line"):
        lxc_config.config("kettle\nlxc.cap.keep = sys_admin", 700_000, 65_536)


def test_two_nodes_of_one_machine_have_different_sockets_for_one_component() -> None:
    one, two = (lxc_config.state_path(f"/state{n}/containers/{1:040x}") for n in (1, 2))
    assert one != two
    assert one.startswith("/run/")


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_the_holder_is_one_segment_that_is_read_and_executed(machine: str, number: int) -> None:
    program = holder.program(machine)
    assert program is not None
    assert program[:6] == b"\x7fELF\x02\x01"
    kind, its_machine, _, entry, segments = struct.unpack_from("<HHIQQ", program, 16)
    assert (kind, its_machine, segments) == (2, number, 64)
    what, flags, offset, address, _, size, in_memory, _ = struct.unpack_from(
        "<IIQQQQQQ", program, 64
    )
    assert (what, flags, offset) == (1, 5, 0), "loaded, readable and executable, not writable"
    assert size == in_memory == len(program)
    assert address < entry < address + size
    assert entry - address == 120, "right after the headers"


def test_an_unknown_processor_has_no_holder() -> None:
    assert holder.program("riscv64") is None


def test_every_back_end_has_a_launcher_and_a_name_in_messages() -> None:
    assert set(launchers.launchers(Template())) == set(BACK_ENDS)
    assert set(BackEnd.__args__) == {"", *BACK_ENDS}


class Template:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.orders: list[LaunchOrder] = []
        self.ended: list[str] = []

    async def launch(self, order: LaunchOrder, network_fd: int) -> Any:
        self.orders.append(order)
        return f"process at {network_fd}"

    async def end(self, component: str, process: Any) -> None:
        self.ended.append(component)


def order() -> LaunchOrder:
    return LaunchOrder(
        component=f"{1:040x}",
        incarnation=1,
        host_name="kettle",
        directory="/d",
        lower="/l",
        binds=(),
        bundle_dir="/b",
        hub_dir="/h",
        device="",
        disk_bytes=1 << 20,
        tmp_bytes=1 << 20,
        uid_base=700_000,
        address="10.0.0.2",
        harness_entrances=(),
        component_entrances=(),
        command=("true",),
        environment={},
        protocol="json",
        configuration=None,
        endpoints={},
        ready_timeout_s=1.0,
    )


@pytest.mark.parametrize("name", BACK_ENDS)
async def test_the_order_names_the_back_end_it_is_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "_MISSING", dict.fromkeys(BACK_ENDS, lambda: None))
    template = Template()
    launcher = launchers.launchers(template)[name]
    assert await launcher.launch(order(), 7) == "process at 7"
    assert [o.backend for o in template.orders] == [name]
    await launcher.end("c", None)
    assert template.ended == ["c"]


async def test_a_back_end_that_cannot_be_used_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking = dict.fromkeys(BACK_ENDS, lambda: "lxc-start is missing")
    monkeypatch.setattr(launchers, "_MISSING", lacking)
    template = Template()
    with pytest.raises(PlatformError) as caught:
        await launchers.launchers(template)["lxc"].launch(order(), 7)
    assert caught.value.code == "unsupported"
    assert "lxc-start is missing" in str(caught.value)
    assert "apt install lxc" in (caught.value.hint or "")
    assert not template.orders
