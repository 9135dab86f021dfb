"""Both versions of control groups, on directories that look like theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.real.kernel_cgroup import (
    CgroupMounts,
    Cgroups,
    GroupLimits,
    GroupUsage,
    MemoryInUse,
    find_mounts,
)
from paas.real.kernel_cgroup1 import Hierarchy1, hierarchies
from paas.real.kernel_cgroup2 import Hierarchy2, available
from paas.real.kernel_cgroups import choose, choose_freezer, choose_io

MIXED = """\
30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
short line
"""
LIMITS = GroupLimits(memory_bytes=64 << 20, cpu=0.5, pids=64)


def test_mounts_of_a_mixed_machine() -> None:
    found = find_mounts(MIXED)
    assert found.version2 == "/sys/fs/cgroup/unified"
    assert found.version1["memory"] == "/sys/fs/cgroup/memory"
    assert found.version1["cpu"] == found.version1["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"


def test_a_shared_mount_is_one_hierarchy() -> None:
    found = hierarchies(find_mounts(MIXED).version1)
    assert [h.controllers for h in found] == [{"memory"}, {"cpu", "cpuacct"}]


def test_version_2_serves_what_version_1_has_not(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids hugetlb\n")
    mounts = CgroupMounts({"memory": "/m"}, str(tmp_path))
    chosen, missing = choose(mounts)
    assert missing == []
    assert [sorted(h.controllers) for h in chosen] == [["memory"], ["cpu", "pids"]]


def test_what_nobody_offers_is_named(tmp_path: Path) -> None:
    assert choose(CgroupMounts({}, str(tmp_path))) == ([], ["memory", "cpu", "pids"])
    assert available(str(tmp_path)) == frozenset()


def prepared(path: Path, content: dict[str, str]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (path / name).write_text(text)
    return path


def test_version_1_limits_and_figures(tmp_path: Path) -> None:
    leaf = prepared(
        tmp_path / "leaf",
        {
            "memory.limit_in_bytes": "",
            "memory.memsw.limit_in_bytes": "9223372036854771712",
            "cpu.cfs_period_us": "",
            "cpu.cfs_quota_us": "",
            "pids.max": "",
            "memory.usage_in_bytes": "10",
            "memory.max_usage_in_bytes": "20",
            "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            "cpuacct.usage": "5000000",
            "cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 2000000\n",
            "pids.current": "4",
        },
    )
    every = frozenset({"memory", "cpu", "cpuacct", "pids"})
    hierarchy = Hierarchy1(tmp_path, every)
    hierarchy.limit(leaf, LIMITS)
    assert (leaf / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (leaf / "memory.memsw.limit_in_bytes").read_text() == str(64 << 20)
    assert (leaf / "cpu.cfs_quota_us").read_text() == "50000"
    assert (leaf / "pids.max").read_text() == "64"
    assert hierarchy.usage(leaf) == GroupUsage(10, 20, 5.0, 2.0, 4, 3, 64 << 20)


def test_version_2_limits_figures_and_handing_down(tmp_path: Path) -> None:
    hierarchy = Hierarchy2(tmp_path, frozenset({"memory", "cpu", "pids"}))
    hierarchy.open_parent("paas-x")
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    hierarchy.create(tmp_path / "paas-x" / "c")
    assert (tmp_path / "paas-x/c/cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    leaf = prepared(
        tmp_path / "paas-x/c/component",
        {
            "memory.current": "10",
            "memory.events": "low 0\noom 2\noom_kill 1\n",
            "cpu.stat": "usage_usec 7000\nthrottled_usec 1000\n",
            "pids.current": "4",
        },
    )
    hierarchy.limit(leaf, LIMITS)
    assert (leaf / "memory.max").read_text() == str(64 << 20)
    assert (leaf / "memory.swap.max").read_text() == "0"
    assert (leaf / "cpu.max").read_text() == "50000 100000"
    assert hierarchy.usage(leaf) == GroupUsage(10, 0, 7.0, 1.0, 4, 1, 64 << 20)


def test_leaves_names_entrances_and_removal(tmp_path: Path) -> None:
    one = Hierarchy1(tmp_path / "cpuacct", frozenset({"cpuacct"}))
    one.root.mkdir()
    groups = Cgroups([one], "paas-x")
    groups.open()
    groups.create("c" * 40, {"component": GroupLimits()})
    groups.create("c" * 40, {})
    assert groups.names() == {"c" * 40}
    top = one.root / "paas-x" / ("c" * 40)
    assert groups.entrances("c" * 40, "component") == [f"{top}/component/tasks"]
    assert groups.processes("c" * 40) == set()
    groups.remove("c" * 40)
    groups.remove("c" * 40)
    assert groups.names() == set()
    assert groups.usage("c" * 40, "component") == GroupUsage()
    groups.close()
    assert list(one.root.iterdir()) == []


def test_a_group_that_stays_busy_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paas.real.kernel_cgroup._BUSY_S", 0.01)
    one = Hierarchy1(tmp_path, frozenset({"pids"}))
    groups = Cgroups([one], "paas-x")
    groups.open()
    prepared(tmp_path / "paas-x" / "c" / "harness", {"file": "x"})
    with pytest.raises(OSError):
        groups.remove("c")


NULL = "1:3"
"""Numbers of /dev/null, a device that every machine has."""


def with_io(root: Path) -> tuple[Cgroups, Hierarchy1, Hierarchy1, Path]:
    """Groups with a hierarchy of their own for I/O; with the leaf that the kernel would fill."""
    one, io = Hierarchy1(root / "pids", frozenset()), Hierarchy1(root / "io", frozenset({"blkio"}))
    for hierarchy in (one, io):
        hierarchy.root.mkdir()
    groups = Cgroups([one], "paas-x", io)
    groups.open()
    return groups, one, io, root / "io" / "paas-x" / "c" / "component"


def test_version_1_bounds_and_lifts_io_of_one_device(tmp_path: Path) -> None:
    groups, _, io, leaf = with_io(tmp_path)
    rules = ("blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device")
    prepared(leaf, dict.fromkeys(rules, ""))
    groups.limit_io("c", "/dev/null", 1 << 20)
    assert [(leaf / name).read_text() for name in rules] == [f"{NULL} 1048576"] * 2
    io.lift_io(leaf)
    assert [(leaf / name).read_text()[:5] for name in rules] == [f"{NULL} 0"[:5]] * 2


def test_version_2_hands_io_down_only_when_asked(tmp_path: Path) -> None:
    hierarchy = Hierarchy2(tmp_path, frozenset({"memory"}))
    groups = Cgroups([hierarchy], "paas-x", hierarchy)
    groups.open()
    groups.create("c", {})
    top = tmp_path / "paas-x" / "c"
    assert (top / "cgroup.subtree_control").read_text() == "+memory"
    groups.lift_io("c")
    leaf = prepared(top / "component", {"io.max": ""})
    groups.limit_io("c", "/dev/null", 1 << 20)
    for path in (tmp_path, tmp_path / "paas-x", top):
        assert (path / "cgroup.subtree_control").read_text() == "+io"
    assert (leaf / "io.max").read_text() == f"{NULL} rbps=1048576 wbps=1048576"
    groups.lift_io("c")
    assert (leaf / "io.max").read_text().startswith(f"{NULL} rbps=max wbps=max")


def test_only_containers_with_a_bound_on_io_are_in_its_hierarchy(tmp_path: Path) -> None:
    groups, one, io, leaf = with_io(tmp_path)
    groups.create("c", {})
    groups.create("d", {})
    groups.lift_io("d")
    assert list(io.root.iterdir()) == []
    prepared(leaf, {"blkio.throttle.read_bps_device": "", "blkio.throttle.write_bps_device": ""})
    groups.limit_io("c", "/dev/null", 1 << 20)
    within = [f"{h.root}/paas-x/c/harness/tasks" for h in (one, io)]
    assert groups.entrances("c", "harness") == within
    assert groups.entrances("d", "harness") == [f"{one.root}/paas-x/d/harness/tasks"]
    assert groups.names() == {"c", "d"}
    (leaf / "cgroup.procs").write_text("17\n")
    assert groups.processes("c") == {17}
    for file in leaf.iterdir():
        file.unlink()
    groups.remove("c")
    groups.remove("d")
    groups.close()
    assert [*one.root.iterdir(), *io.root.iterdir()] == []


def test_a_bound_on_io_that_cannot_be_is_refused_with_the_reason(tmp_path: Path) -> None:
    groups, *_ = with_io(tmp_path)
    for refusing, reason in (
        (Cgroups([], "paas-x"), "no control-group hierarchy offers io"),
        (groups, "the kernel refuses a bound on /dev/null"),
    ):
        with pytest.raises(PlatformError, match=reason) as caught:
            refusing.limit_io("c", "/dev/null", 1 << 20)
        assert caught.value.code == "unsupported"
    Cgroups([], "paas-x").lift_io("c")


def test_the_hierarchy_for_io_is_version_1_where_mounted_else_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory io\n")
    second = CgroupMounts({}, str(tmp_path))
    chosen, _ = choose(second)
    assert choose_io(second, chosen) is chosen[0]
    found = choose_io(second, ())
    assert found is not None
    assert (found.root, found.controllers) == (tmp_path, {"io"})
    first = choose_io(CgroupMounts({"blkio": "/b"}, str(tmp_path)), chosen)
    assert isinstance(first, Hierarchy1)
    assert first.root == Path("/b")
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    assert choose_io(second, chosen) is None


def test_version_2_lowers_memory_only_below_what_is_not_in_use(tmp_path: Path) -> None:
    leaf = prepared(tmp_path / "leaf", {"memory.current": "50", "memory.reclaim": ""})
    hierarchy = Hierarchy2(tmp_path, frozenset({"memory"}))
    with pytest.raises(MemoryInUse) as caught:
        hierarchy.limit(leaf, GroupLimits(memory_bytes=40))
    assert caught.value.used_bytes == 50
    assert (leaf / "memory.reclaim").read_text() == "10"
    assert not (leaf / "memory.max").exists()
    hierarchy.limit(leaf, GroupLimits(memory_bytes=60))
    assert (leaf / "memory.max").read_text() == "60"


def test_version_1_keeps_memory_below_memory_with_swap_at_every_moment(tmp_path: Path) -> None:
    """The kernel refuses the one above the other, so the order of writing depends."""
    hierarchy = Hierarchy1(tmp_path, frozenset({"memory"}))
    for before, wanted in ((100, 50), (100, 200)):
        names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        leaf = prepared(tmp_path / str(wanted), dict.fromkeys(names, str(before)))
        hierarchy.limit(leaf, GroupLimits(memory_bytes=wanted))
        assert [(leaf / name).read_text() for name in names] == [str(wanted)] * 2


def test_weights_of_both_versions(tmp_path: Path) -> None:
    group = prepared(tmp_path / "c", {})
    Hierarchy1(tmp_path, frozenset({"cpu"})).weigh(group, 300)
    Hierarchy2(tmp_path, frozenset({"cpu"})).weigh(group, 300)
    assert (group / "cpu.shares").read_text() == "3072"
    assert (group / "cpu.weight").read_text() == "300"
    Hierarchy1(tmp_path, frozenset({"memory"})).weigh(tmp_path / "none", 300)


def test_freezing_on_version_2(tmp_path: Path) -> None:
    group = Hierarchy2(tmp_path, frozenset())
    groups = Cgroups([], "paas-x", freezer=group)
    groups.open()
    groups.create("c" * 40, {})
    leaf = tmp_path / "paas-x" / ("c" * 40) / "component"
    prepared(leaf, {"cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 0\n"})
    groups.freeze("c" * 40)
    assert (leaf / "cgroup.freeze").read_text() == "1"
    assert groups.is_freezing("c" * 40)
    assert not groups.is_frozen("c" * 40)
    (leaf / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert groups.is_frozen("c" * 40)
    groups.let_die("c" * 40)
    assert (leaf / "cgroup.freeze").read_text() == "0"
    assert groups.entrances("c" * 40, "component") == [f"{leaf}/cgroup.procs"]
    assert groups.entrances("c" * 40, "harness") == []


def test_where_nothing_freezes_that_is_said_and_killing_works() -> None:
    groups = Cgroups([], "paas-x")
    with pytest.raises(PlatformError, match=r"\[unsupported\]"):
        groups.freeze("c" * 40)
    groups.let_die("c" * 40)
    assert not groups.is_frozen("c" * 40)


def test_the_freezer_is_version_2_where_the_rest_is_and_else_version_1s(tmp_path: Path) -> None:
    two = Hierarchy2(tmp_path, frozenset({"memory"}))
    assert choose_freezer(CgroupMounts({"freezer": "/f"}, str(tmp_path)), [two]) is two
    one = choose_freezer(CgroupMounts({"freezer": "/f"}, str(tmp_path)), [])
    assert isinstance(one, Hierarchy1)
    bare = choose_freezer(CgroupMounts({}, str(tmp_path)), [])
    assert isinstance(bare, Hierarchy2)
    assert bare.controllers == frozenset()
    assert choose_freezer(CgroupMounts({}, None), []) is None


def test_pressure_is_version_2s_and_absent_where_the_kernel_has_none(tmp_path: Path) -> None:
    text = "some avg10=12.50 avg60=3.00 avg300=1.00 total=99\nfull avg10=0.00 avg60=0.00\n"
    leaf = prepared(tmp_path / "leaf", {"cpu.pressure": text, "io.pressure": "full avg10=1.00"})
    assert Hierarchy2(tmp_path, frozenset()).pressure(leaf) == {"cpu": 12.5, "io": 0.0}
    assert Hierarchy2(tmp_path, frozenset()).pressure(tmp_path) is None
    assert Hierarchy1(tmp_path, frozenset()).pressure(leaf) is None
