"""Attempts on the world: the host, other containers, the network, shared memory and queues.

FACTS say where things are: `gateway`, `ports` (of listeners on the host), `host`, `neighbour`
[address, port], `abstract` (a name), `memory_key`, `queue_key`, `shared_file`.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from inside import FACTS, LIBC, attempt, refuse

_SHORT_S = 0.5
_FREEBIND = 15


def _connect(address: str, port: int) -> str:
    """ETIMEDOUT when nothing answers; another word says that somebody did."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as one:
        one.settimeout(_SHORT_S)
        try:
            one.connect((address, port))
        except TimeoutError:
            raise refuse("ETIMEDOUT") from None
        return "ok"


@attempt
def port_of_the_host_at_the_gateway() -> str:
    return _connect(FACTS["gateway"], FACTS["port"])


@attempt
def port_of_the_host_at_its_other_address() -> str:
    return _connect(FACTS["host"], FACTS["port"])


@attempt
def port_of_the_host_at_loopback() -> str:
    return _connect("127.0.0.1", FACTS["port"])


@attempt
def port_of_a_neighbour() -> str:
    return _connect(*FACTS["neighbour"])


@attempt
def metadata_of_the_cloud() -> str:
    return _connect("169.254.169.254", 80)


@attempt
def the_internet() -> str:
    return _connect("192.0.2.1", 443)


@attempt
def the_internet_by_ip_6() -> str:
    return _connect("2001:db8::1", 443)


@attempt
def datagram_to_the_host() -> str:
    """The host's socket answers to whoever reaches it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(_SHORT_S)
        one.sendto(b"probe", (FACTS["gateway"], FACTS["datagram_port"]))
        try:
            one.recv(100)
        except TimeoutError:
            raise refuse("ETIMEDOUT") from None


@attempt
def broadcast() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.sendto(b"probe", ("255.255.255.255", 9))


@attempt
def send_from_anothers_address() -> None:
    """IP spoofing without raw sockets: bound to an address that is not ours (IP_FREEBIND)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, FACTS.get("option", _FREEBIND), 1)
        one.bind((FACTS["neighbour"][0], 0))
        one.sendto(b"probe", (FACTS["gateway"], FACTS["datagram_port"]))


@attempt
def send_from_anothers_address_by_ancillary() -> None:
    """IP_PKTINFO with a source that is not ours."""
    source = socket.inet_aton(FACTS["neighbour"][0])
    info = struct.pack("=i4s4s", 0, source, bytes(4))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        there = (FACTS["gateway"], FACTS["datagram_port"])
        one.sendmsg([b"probe"], [(socket.IPPROTO_IP, 8, info)], 0, there)


@attempt
def take_anothers_address() -> None:
    with socket.socket() as one:
        one.bind((FACTS["neighbour"][0], 0))


@attempt
def abstract_socket_of_the_host() -> None:
    """CVE-2020-15257: containerd's shim was reachable this way."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + FACTS["abstract"])


@attempt
def abstract_socket_of_a_neighbour() -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0neighbour")


@attempt
def socket_of_the_hub() -> None:
    """The hub's socket for harnesses lies on the host; pid 1 looks it up, nobody else."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(FACTS["hub_socket"])


@attempt
def socket_of_an_engine() -> None:
    for path in ("/run/docker.sock", "/run/containerd/containerd.sock", "/run/lxc/lxc.sock"):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)


@attempt
def shared_memory_of_the_host() -> None:
    if LIBC.shmget(FACTS["memory_key"], 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "")


@attempt
def message_queue_of_the_host() -> None:
    if LIBC.msgget(FACTS["queue_key"], 0) < 0:
        raise OSError(ctypes.get_errno(), "")


@attempt
def named_queue_of_the_host() -> None:
    if LIBC.mq_open(FACTS["named_queue"].encode(), os.O_RDONLY) < 0:
        raise OSError(ctypes.get_errno(), "")


@attempt
def shared_file_of_the_host() -> None:
    os.close(os.open(FACTS["shared_file"], os.O_RDONLY))


@attempt
def process_of_the_host() -> None:
    os.kill(FACTS["process"], 0)


@attempt
def process_of_the_host_by_descriptor() -> None:
    os.close(os.pidfd_open(FACTS["process"]))
