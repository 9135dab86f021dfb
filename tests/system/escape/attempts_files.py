"""Attempts on files: /proc, devices, the host's tree, descriptors, executables."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import struct
import subprocess
from pathlib import Path

from inside import FACTS, attempt, call, refuse

_NULL = os.makedev(1, 3)


def _open(path: str, how: int) -> None:
    """Opened only: to write would be the breach itself.  A mask is told from the real thing."""
    fd = os.open(path, how | os.O_CLOEXEC)
    masked = os.fstat(fd).st_rdev == _NULL and path != "/dev/null"
    os.close(fd)
    if masked:
        raise refuse("ENODATA")


def _opening(name: str, path: str, how: int) -> None:
    def one() -> None:
        _open(path, how)

    one.__name__ = name
    attempt(one)


_READ, _WRITE = os.O_RDONLY, os.O_WRONLY
for _name, _path, _how in (
    ("read_memory_of_pid_1", "/proc/1/mem", _READ),
    ("read_environment_of_pid_1", "/proc/1/environ", _READ),
    ("read_maps_of_pid_1", "/proc/1/maps", _READ),
    ("overwrite_executable_of_pid_1", "/proc/1/exe", _WRITE),
    ("read_executable_of_pid_1", "/proc/1/exe", _READ),
    ("write_sysrq_trigger", "/proc/sysrq-trigger", _WRITE),
    ("read_kernel_memory", "/proc/kcore", _READ),
    ("read_kernel_keys", "/proc/keys", _READ),
    ("read_kernel_log", "/proc/kmsg", _READ),
    ("read_kernel_symbols", "/proc/kallsyms", _READ),
    ("read_kernel_timers", "/proc/timer_list", _READ),
    ("read_kernel_command_line", "/proc/cmdline", _READ),
    ("read_memory_layout", "/proc/iomem", _READ),
    ("write_memory_type_ranges", "/proc/mtrr", _WRITE),
    ("write_core_pattern", "/proc/sys/kernel/core_pattern", _WRITE),
    ("write_module_loader", "/proc/sys/kernel/modprobe", _WRITE),
    ("write_host_name_by_proc", "/proc/sys/kernel/hostname", _WRITE),
    ("write_network_setting", "/proc/sys/net/ipv4/ip_unprivileged_port_start", _WRITE),
    ("write_forwarding", "/proc/sys/net/ipv4/ip_forward", _WRITE),
    ("write_memory_setting", "/proc/sys/vm/overcommit_memory", _WRITE),
    ("write_binary_formats", "/proc/sys/fs/binfmt_misc/register", _WRITE),
    ("write_sysrq_setting", "/proc/sys/kernel/sysrq", _WRITE),
    ("write_interrupts", "/proc/irq/default_smp_affinity", _WRITE),
    ("write_own_memory_by_proc", "/proc/self/mem", _WRITE),
    ("write_own_name_by_proc", "/proc/self/comm", _WRITE),
    ("write_own_maps_of_users", "/proc/self/uid_map", _WRITE),
    ("write_own_out_of_memory_score", "/proc/self/oom_score_adj", _WRITE),
    ("write_own_security_attribute", "/proc/self/attr/exec", _WRITE),
    ("write_session_number", "/proc/self/loginuid", _WRITE),
    ("open_kernel_messages", "/dev/kmsg", _READ),
    ("open_physical_memory", "/dev/mem", _READ),
    ("open_ports", "/dev/port", _READ),
    ("open_raw_disk", FACTS.get("disk", "/dev/vda"), _READ),
    ("open_loop_control", "/dev/loop-control", os.O_RDWR),
    ("open_network_tunnel", "/dev/net/tun", os.O_RDWR),
    ("open_virtual_machines", "/dev/kvm", os.O_RDWR),
    ("open_user_file_systems", "/dev/fuse", os.O_RDWR),
    ("open_device_mapper", "/dev/mapper/control", os.O_RDWR),
    ("open_console", "/dev/console", os.O_RDWR),
    ("overwrite_program_of_the_base", "/usr/bin/env", _WRITE),
    ("create_in_devices", "/dev/injected", os.O_WRONLY | os.O_CREAT),
    ("create_in_kernel_settings", "/proc/sys/injected", os.O_WRONLY | os.O_CREAT),
    ("create_in_root", "/injected", os.O_WRONLY | os.O_CREAT),
    ("create_in_programs", "/usr/bin/injected", os.O_WRONLY | os.O_CREAT),
    ("create_in_sys", "/sys/injected", os.O_WRONLY | os.O_CREAT),
    ("release_agent", "/sys/fs/cgroup/memory/release_agent", _WRITE),
    ("own_memory_limit", "/sys/fs/cgroup/memory/memory.limit_in_bytes", _WRITE),
    ("own_group_members", "/sys/fs/cgroup/cgroup.procs", _WRITE),
    ("kernel_event_helper", "/sys/kernel/uevent_helper", _WRITE),
    ("firmware", "/sys/firmware", _READ),
    ("power_use", "/sys/devices/virtual/powercap", _READ),
    ("trace_the_kernel", "/sys/kernel/tracing/trace", _READ),
):
    _opening(_name, _path, _how)


@attempt
def replace_null_device() -> None:
    """CVE-2025-31133: masks are made with /dev/null; it must not be ours to exchange."""
    os.rename("/dev/null", "/dev/null2")


@attempt
def root_of_pid_1() -> None:
    os.listdir("/proc/1/root")


@attempt
def working_directory_of_pid_1() -> None:
    os.listdir("/proc/1/cwd/")


@attempt
def descriptors_of_pid_1() -> None:
    os.listdir("/proc/1/fd")


@attempt
def host_by_root_of_pid_1() -> str:
    """As the harness's user the root of pid 1 is one's own: the host's canary is not in it."""
    return "own" if not os.path.exists("/proc/1/root" + FACTS["canary"]) else "ok"


@attempt
def host_by_dots() -> None:
    os.chdir("/")
    os.close(os.open("../../../../.." + FACTS["canary"], os.O_RDONLY))


@attempt
def host_by_path() -> None:
    os.close(os.open(FACTS["canary"], os.O_RDONLY))


@attempt
def host_by_leaked_descriptor() -> None:
    """CVE-2024-21626, CVE-2016-9962: any descriptor of a directory, and from there upwards."""
    up = "../" * 12 + FACTS["canary"].lstrip("/")
    for word in os.listdir("/proc/self/fd"):
        for path in (up, "."):
            try:
                fd = os.open(path, os.O_RDONLY, dir_fd=int(word))
            except OSError:
                continue
            if path == up or os.path.exists(f"/proc/self/fd/{fd}/{up}"):
                return
            os.close(fd)
    raise refuse("ENOENT")


@attempt
def host_by_working_directory() -> None:
    """CVE-2024-21626: the first working directory may be one of the host's."""
    if os.stat(FACTS.get("cwd", ".")).st_dev != os.stat("/app").st_dev:
        return
    raise refuse("ENOENT")


@attempt
def inherited_descriptors() -> str:
    """Everything inherited beyond 0-3."""
    found = []
    for word in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{word}")
        except OSError:
            continue
        if int(word) > 3 and not target.startswith(("/proc/", "pipe:")):
            found.append(target)
    return "none" if not found else json.dumps(found)


@attempt
def open_by_handle() -> None:
    """ "Shocker": a handle of the root directory of the file system below."""
    root = os.open("/", os.O_RDONLY)
    handle = struct.pack("=IiQ", 8, 1, 2)
    os.close(call("open_by_handle_at", root, handle.decode("latin-1"), 0))


@attempt
def make_disk() -> None:
    os.mknod("/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(254, 0))
    os.unlink("/tmp/disk")


@attempt
def make_kernel_memory_device() -> None:
    os.mknod("/tmp/memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    os.unlink("/tmp/memory")


@attempt
def make_nothing_device() -> None:
    """Character device 0:0: no capability is needed, an overlay takes it for a removed file."""
    os.mknod("/tmp/nothing", 0o600 | stat.S_IFCHR, 0)
    os.unlink("/tmp/nothing")


def _set_attribute(name: str, value: bytes) -> None:
    path = f"/tmp/attribute-{os.getpid()}"
    Path(path).write_text("x")
    try:
        os.setxattr(path, name, value)
    finally:
        os.unlink(path)


@attempt
def overlay_private_attribute() -> None:
    """CVE-2021-3493, CVE-2023-0386: what overlays keep in attributes, and file capabilities."""
    _set_attribute("trusted.overlay.redirect", b"/")


@attempt
def file_capability() -> None:
    _set_attribute("security.capability", struct.pack("=5I", 0x02000001, 1, 0, 0, 0))


@attempt
def setuid_program() -> str:
    """A copy of a program with its bit set: run, it has no other user than before."""
    name = f"/tmp/setuid-{os.getpid()}"
    Path(name).write_bytes(Path("/usr/bin/id").read_bytes())
    os.chmod(name, 0o6755)
    shown = subprocess.run([name, "-u"], capture_output=True, text=True, check=False).stdout
    os.unlink(name)
    return "same-user" if shown.strip() == str(os.getuid()) else "ok"


@attempt
def setuid_program_of_the_bundle() -> str:
    """One that the bundle brings, and that belongs to the host's root."""
    path = FACTS.get("setuid", "/app/setuid")
    if "user" in FACTS:
        os.setresuid(*[FACTS["user"]] * 3)
    shown = subprocess.run([path, "-u"], capture_output=True, text=True, check=False).stdout
    return "same-user" if shown.strip() == str(os.getuid()) else "ok"


@attempt
def device_of_the_bundle() -> None:
    _open(FACTS.get("device", "/app/disk"), _READ)


@attempt
def hard_link_to_a_program_of_the_base() -> None:
    os.link("/usr/bin/env", "/usr/bin/env-of-mine")


@attempt
def overwrite_own_interpreter() -> str:
    """CVE-2019-5736: through /proc/self/exe, which names a file of the host."""
    try:
        _open("/proc/self/exe", _WRITE)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return "ok"


@attempt
def overwrite_through_a_link_in_proc() -> None:
    """CVE-2025-52881, CVE-2019-16884: a writer that is led into /proc by a symbolic link."""
    link = f"/tmp/link-{os.getpid()}"
    os.symlink("/proc/sys/kernel/core_pattern", link)
    try:
        _open(link, _WRITE)
    finally:
        os.unlink(link)


@attempt
def truncate_mask() -> None:
    os.truncate("/proc/keys", 0)


@attempt
def change_mode_of_the_root() -> None:
    os.chmod("/", 0o777)


@attempt
def change_owner_of_a_program() -> None:
    os.chown("/usr/bin/env", os.getuid(), os.getgid())


@attempt
def swap_file() -> None:
    path = f"/tmp/swap-{os.getpid()}"
    Path(path).write_bytes(bytes(4096 * 10))
    try:
        call("swapon", path, 0)
    finally:
        os.unlink(path)


@attempt
def other_processes() -> str:
    """hidepid: of processes, only one's own user's are there."""
    mine = os.getuid()
    found = []
    for word in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError):  # it has ended since
            if os.stat(f"/proc/{word}").st_uid != mine:
                found.append(word)
    return "none" if not found else "ok"
