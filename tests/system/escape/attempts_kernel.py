"""Attempts on the kernel: namespaces, sockets, processes, capabilities, foreign calling ways."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import struct

from inside import LIBC, attempt, call, refuse

NEW_USER, NEW_PID, NEW_MOUNT = 0x10000000, 0x20000000, 0x20000


def _clone(flags: int) -> None:
    pid = call("clone", flags | signal.SIGCHLD, None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@attempt
def clone_new_user() -> None:
    _clone(NEW_USER)


@attempt
def clone_new_pid() -> None:
    _clone(NEW_PID)


@attempt
def clone_new_mount() -> None:
    _clone(NEW_MOUNT)


@attempt
def clone3_new_user() -> None:
    words = struct.pack("=8Q", NEW_USER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call("clone3", ctypes.create_string_buffer(words, 64), 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@attempt
def user_namespace_then_mount() -> None:
    """What nested user namespaces are made for: to mount something."""
    pid = os.fork()
    if pid == 0:
        done = LIBC.unshare(NEW_USER | NEW_MOUNT) == 0
        done = done and LIBC.mount(b"x", b"/tmp", b"tmpfs", 0, None) == 0
        os._exit(0 if done else 1)
    if os.waitpid(pid, 0)[1]:
        raise refuse("EPERM")


@attempt
def call_by_the_x32_table() -> None:
    call(0x40000000 | 39)  # getpid


@attempt
def call_by_the_32_bit_table() -> None:
    """int 0x80, whose numbers are another table's."""
    code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid); int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if result < 0:
        raise OSError(-result, os.strerror(-result))


@attempt
def setns_of_pid_1() -> None:
    call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)


@attempt
def setns_own() -> None:
    call("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


@attempt
def setns_by_process() -> None:
    call("setns", os.pidfd_open(os.getppid()), NEW_MOUNT)


def _socket(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


@attempt
def raw_socket() -> None:
    _socket(socket.AF_INET, socket.SOCK_RAW, 1)


@attempt
def raw_socket_of_ip_6() -> None:
    _socket(socket.AF_INET6, socket.SOCK_RAW, 58)


@attempt
def packet_socket() -> None:
    _socket(socket.AF_PACKET, socket.SOCK_DGRAM)


@attempt
def packet_socket_by_high_bits() -> None:
    """The kernel cuts the family to 32 bits: a filter that compares 64 must not let it by."""
    os.close(call("socket", (1 << 32) | socket.AF_PACKET, socket.SOCK_DGRAM, 0))


@attempt
def virtual_machine_socket() -> None:
    _socket(40, socket.SOCK_STREAM)


@attempt
def crypto_socket() -> None:
    _socket(38, socket.SOCK_SEQPACKET)


@attempt
def audit_netlink() -> None:
    _socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)


@attempt
def packet_filter_netlink() -> None:
    _socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)


@attempt
def device_events_netlink() -> None:
    _socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)


@attempt
def generic_netlink() -> None:
    _socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)


@attempt
def packet_filter_by_socket_option() -> None:
    """The way into CVE-2021-22555: replace the tables of iptables."""
    with socket.socket() as one:
        one.setsockopt(socket.IPPROTO_IP, 64, bytes(200))


def _netlink(kind: int, flags: int, body: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
        route.send(struct.pack("=IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
        number = -struct.unpack_from("=i", route.recv(4096), 16)[0]
        if number:
            raise OSError(number, os.strerror(number))


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


@attempt
def add_address_by_netlink() -> None:
    _netlink(20, 0x600, struct.pack("=BBBBI", 2, 32, 0, 0, 1) + _attribute(2, bytes([10, 9, 8, 7])))


@attempt
def add_route_by_netlink() -> None:
    body = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 4, 253, 1, 0)
    _netlink(24, 0x600, body + _attribute(1, bytes([10, 9, 8, 6])) + _attribute(4, b"\1\0\0\0"))


@attempt
def add_neighbour_by_netlink() -> None:
    """ARP: another hardware address for somebody's address."""
    body = struct.pack("=BBHiHBB", 2, 0, 0, 1, 0x80, 0, 0)
    told = _attribute(1, bytes([10, 9, 8, 5])) + _attribute(2, bytes.fromhex("020000000001"))
    _netlink(28, 0x600, body + told)


@attempt
def make_link_by_netlink() -> None:
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + _attribute(3, b"probe0\0")
    _netlink(16, 0x600, body + _attribute(18, _attribute(1, b"dummy")))


@attempt
def change_a_link_by_netlink() -> None:
    body = struct.pack("=BBHiII", 0, 0, 0, 1, 0, 0) + _attribute(4, struct.pack("=I", 1400))
    _netlink(16, 0, body)  # the size of packets of link 1: harmless where it works


@attempt
def low_port() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 80))


@attempt
def transparent_socket() -> None:
    """Send from any address: IP_TRANSPARENT."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, 19, 1)


@attempt
def mark_packets() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, 36, 7)


@attempt
def larger_buffers_than_allowed() -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, 33, 1 << 28)  # SO_RCVBUFFORCE


def _terminal_request(request: int) -> None:
    leader, follower = os.openpty()
    try:
        fcntl.ioctl(follower, request, b"\0" * 16)
    finally:
        os.close(leader)
        os.close(follower)


@attempt
def push_characters_into_a_terminal() -> None:
    _terminal_request(0x5412)


@attempt
def paste_into_a_console() -> None:
    _terminal_request(0x541C)


@attempt
def load_a_line_discipline() -> None:
    _terminal_request(0x5423)


@attempt
def push_characters_by_high_bits() -> None:
    """CVE-2023-1523's way: a request whose high bits the kernel cuts off."""
    leader, follower = os.openpty()
    try:
        call("ioctl", follower, (1 << 32) | 0x5412, "x")
    finally:
        os.close(leader)
        os.close(follower)


@attempt
def real_time_scheduling() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@attempt
def highest_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -20)


@attempt
def real_time_disk_priority() -> None:
    call("ioprio_set", 1, 0, 1 << 13)


def _raise(kind: int, value: int) -> None:
    try:
        resource.setrlimit(kind, (value, value))
    except ValueError:  # Python's word for this EPERM
        raise refuse("EPERM") from None


@attempt
def raise_open_files() -> None:
    _raise(resource.RLIMIT_NOFILE, 1 << 20)


@attempt
def raise_core_size() -> None:
    _raise(resource.RLIMIT_CORE, 1 << 20)


@attempt
def raise_locked_memory() -> None:
    _raise(resource.RLIMIT_MEMLOCK, 1 << 30)


@attempt
def change_limits_of_pid_1() -> None:
    resource.prlimit(1, resource.RLIMIT_CORE, (0, 0))


@attempt
def become_another_user() -> None:
    os.setresuid(4242, 4242, 4242)


@attempt
def become_a_user_of_the_host() -> None:
    """No number outside the container's range has a meaning: CVE-2024-40635."""
    os.setresuid(1 << 20, 1 << 20, 1 << 20)


@attempt
def take_groups() -> None:
    os.setgroups([0])


@attempt
def raise_capability() -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    words = struct.pack("=6I", 1 << 21, 1 << 21, 0, 0, 0, 0)
    call("capset", header, ctypes.create_string_buffer(words, 24))


@attempt
def raise_ambient_capability() -> None:
    call("prctl", 47, 2, 10, 0, 0)


@attempt
def inheritable_capabilities() -> str:
    """CVE-2022-24769, CVE-2022-29162: what files could turn into power is empty."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    return "none" if int(lines["CapInh"], 16) == 0 else "some"


@attempt
def take_back_no_new_privileges() -> str:
    try:
        call("prctl", 38, 0, 0, 0, 0)
    except OSError:
        return errno.errorcode[ctypes.get_errno()]
    return "ok"


@attempt
def loosen_secure_bits() -> None:
    call("prctl", 28, 0, 0, 0, 0)


@attempt
def make_pid_1_dumpable() -> None:
    """Only oneself can: what matters is that pid 1 stays closed."""
    call("prctl", 4, 1, 0, 0, 0)
    os.close(os.open("/proc/1/mem", os.O_RDONLY))


@attempt
def signal_pid_1() -> None:
    os.kill(1, 0)


@attempt
def kill_pid_1() -> str:
    """As its own user the signal is sent and ignored: pid 1 of a namespace takes none from it."""
    os.kill(1, signal.SIGKILL)
    os.kill(1, 0)
    return "ignored"
