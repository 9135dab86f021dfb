"""Attempts to leave a container, each by the shortest way; prints what the kernel answered.

Runs inside, with the base's Python and nothing else.  Arguments: JSON map of system-call names
to numbers, and JSON list of the probes to run (all when empty).  Prints a JSON map of probe to "ok"
(it worked: a breach) or the name of the errno.
"""

# ruff: noqa: T201

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
NUMBERS: dict[str, int] = json.loads(sys.argv[1])
ZERO = ctypes.create_string_buffer(4096)
PROBES: dict[str, Callable[[], Any]] = {}


def call(name: str, *arguments: Any) -> int:
    widened = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(LIBC.syscall(ctypes.c_long(NUMBERS[name]), *widened))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def probe(function: Callable[[], Any]) -> Callable[[], Any]:
    PROBES[function.__name__] = function
    return function


def syscall_probe(title: str, name: str, *arguments: Any) -> None:
    PROBES[title] = lambda: call(name, *arguments)


CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
CLONE_NEWPID, CLONE_NEWTIME = 0x20000000, 0x80

syscall_probe("mount_tmpfs", "mount", b"x", b"/tmp", b"tmpfs", 0, None)
syscall_probe("bind_root", "mount", b"/", b"/tmp", None, 4096, None)
syscall_probe("remount_proc_writable", "mount", None, b"/proc/sys", None, 4096 | 32, None)
syscall_probe("unmount_masked_proc", "umount2", b"/proc/keys", 2)
syscall_probe("fsopen", "fsopen", b"tmpfs", 0)
syscall_probe("open_tree", "open_tree", -100, b"/", 1)
syscall_probe("pivot_root", "pivot_root", b"/", b"/tmp")
syscall_probe("chroot", "chroot", b"/tmp")
syscall_probe("unshare_user", "unshare", CLONE_NEWUSER)
syscall_probe("unshare_mount", "unshare", CLONE_NEWNS)
syscall_probe("unshare_network", "unshare", CLONE_NEWNET)
syscall_probe("unshare_time", "unshare", CLONE_NEWTIME)
syscall_probe("ptrace_pid_1", "ptrace", 16, 1, 0, 0)
syscall_probe("keyctl_session", "keyctl", 1, 0)
syscall_probe("keyctl_describe_user", "keyctl", 6, -4, ZERO, 4096)
syscall_probe("add_key", "add_key", b"user", b"probe", b"x", 1, -3)
syscall_probe("bpf", "bpf", 0, ZERO, 128)
syscall_probe("perf_event", "perf_event_open", ZERO, 0, -1, -1, 0)
syscall_probe("userfaultfd", "userfaultfd", 0)
syscall_probe("io_uring", "io_uring_setup", 4, ZERO)
syscall_probe("kexec_load", "kexec_load", 0, 0, None, 0)
syscall_probe("init_module", "init_module", ZERO, 16, b"")
syscall_probe("finit_module", "finit_module", 0, b"", 0)
syscall_probe("delete_module", "delete_module", b"nothing", 0)
syscall_probe("reboot", "reboot", 0, 0, 0, None)
syscall_probe("settimeofday", "settimeofday", None, ZERO)
syscall_probe("clock_settime", "clock_settime", 0, ZERO)
syscall_probe("adjtimex", "adjtimex", ZERO)
syscall_probe("sethostname", "sethostname", b"probe", 5)
syscall_probe("swapon", "swapon", b"/tmp/x", 0)
syscall_probe("acct", "acct", None)
syscall_probe("quotactl", "quotactl", 0, None, 0, None)
syscall_probe("kernel_log", "syslog", 3, ZERO, 4096)
syscall_probe("personality", "personality", 0x0040000)
syscall_probe("process_vm_readv", "process_vm_readv", 1, None, 0, None, 0, 0)
syscall_probe("pidfd_getfd", "pidfd_getfd", 0, 0, 0)
syscall_probe("move_mount", "move_mount", -100, b"/tmp", -100, b"/app", 0)
syscall_probe("mount_setattr", "mount_setattr", -100, b"/", 0, ZERO, 32)
syscall_probe("memfd_secret", "memfd_secret", 0)
syscall_probe("fanotify", "fanotify_init", 0, 0)


def _clone(flags: int) -> int:
    pid = call("clone", flags | signal.SIGCHLD, None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


@probe
def clone_new_user() -> None:
    _clone(CLONE_NEWUSER)


@probe
def clone_new_pid() -> None:
    _clone(CLONE_NEWPID)


@probe
def clone3_new_user() -> None:
    pid = call("clone3", struct.pack("=8Q", CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@probe
def open_by_handle() -> None:
    """The "shocker": a handle of the root directory of the file system below."""
    root = os.open("/", os.O_RDONLY)
    handle = struct.pack("=IiQ", 8, 1, 2)
    os.close(call("open_by_handle_at", root, handle, 0))


@probe
def setns_of_pid_1() -> None:
    fd = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    call("setns", fd, 0)


@probe
def setns_own() -> None:
    call("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


@probe
def raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()


@probe
def packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()


@probe
def vsock_socket() -> None:
    socket.socket(40, socket.SOCK_STREAM, 0).close()


@probe
def audit_netlink() -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9).close()


@probe
def packet_filter_netlink() -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).close()


@probe
def add_address_by_netlink() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
        body = struct.pack("=BBBBI", 2, 32, 0, 0, 1) + struct.pack("=HH4s", 8, 2, bytes(4))
        route.send(struct.pack("=IHHII", 16 + len(body), 20, 5, 1, 0) + body)
        answer = route.recv(4096)
        number = -struct.unpack_from("=i", answer, 16)[0]
        if number:
            raise OSError(number, os.strerror(number))


@probe
def low_port() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 80))


@probe
def terminal_injection() -> None:
    leader, follower = os.openpty()
    try:
        fcntl.ioctl(follower, 0x5412, b"x")
    finally:
        os.close(leader)
        os.close(follower)


@probe
def make_device() -> None:
    os.mknod("/tmp/device", 0o600 | 0o060000, os.makedev(254, 0))
    os.unlink("/tmp/device")


@probe
def signal_pid_1() -> None:
    os.kill(1, 0)


@probe
def read_memory_of_pid_1() -> None:
    os.close(os.open("/proc/1/mem", os.O_RDONLY))


@probe
def read_environment_of_pid_1() -> None:
    os.close(os.open("/proc/1/environ", os.O_RDONLY))


@probe
def root_of_pid_1() -> None:
    os.listdir("/proc/1/root/proc/1/cwd")


@probe
def executable_of_pid_1() -> None:
    os.close(os.open("/proc/1/exe", os.O_WRONLY))


@probe
def trigger_sysrq() -> None:
    # Opened only: writing would be the breach itself.
    with open("/proc/sysrq-trigger", "wb") as file:
        if os.fstat(file.fileno()).st_rdev == os.makedev(1, 3):
            raise OSError(errno.EACCES, "masked")


@probe
def write_core_pattern() -> None:
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))


@probe
def write_host_name_by_proc() -> None:
    os.close(os.open("/proc/sys/kernel/hostname", os.O_WRONLY))


@probe
def write_network_setting() -> None:
    os.close(os.open("/proc/sys/net/ipv4/ip_unprivileged_port_start", os.O_WRONLY))


@probe
def find_control_groups() -> None:
    os.listdir("/sys/fs/cgroup")


@probe
def raise_own_memory_limit() -> None:
    path = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    os.close(os.open(path, os.O_WRONLY))


@probe
def real_time_scheduling() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@probe
def highest_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -20)


@probe
def raise_open_files() -> None:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    except ValueError:  # Python's word for this EPERM
        raise PermissionError(errno.EPERM, "raise a limit") from None


@probe
def become_another_user() -> None:
    os.setresuid(4242, 4242, 4242)


@probe
def take_groups() -> None:
    os.setgroups([0])


@probe
def raise_capability() -> None:
    call(
        "capset",
        struct.pack("=Ii", 0x20080522, 0),
        struct.pack("=6I", 1 << 21, 1 << 21, 0, 0, 0, 0),
    )


@probe
def overwrite_program_of_the_base() -> None:
    os.close(os.open("/usr/bin/python3.11", os.O_WRONLY))


@probe
def remount_by_write_to_dev() -> None:
    os.close(os.open("/dev/injected", os.O_WRONLY | os.O_CREAT))


def run(name: str) -> str:
    """In a child, so that no probe can spoil the next."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            PROBES[name]()
            answer = "ok"
        except OSError as exc:
            answer = errno.errorcode.get(exc.errno or 0, str(exc.errno))
        except BaseException as exc:
            answer = repr(exc)
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    answer = os.read(read, 1000).decode() or "killed"
    os.close(read)
    os.waitpid(pid, 0)
    return answer


if __name__ == "__main__":
    wanted = json.loads(sys.argv[2]) or list(PROBES)
    print(json.dumps({name: run(name) for name in wanted}))
