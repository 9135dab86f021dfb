"""The bridge and the pairs of links are what the kernel says they are."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from paas.real import kernel_netns
from paas.real.kernel_netlink import Links

pytestmark = pytest.mark.system

_NET = Path("/sys/class/net")


@pytest.fixture
def bridge() -> str:
    return f"tl{os.getpid():x}"


@pytest.fixture
def links(bridge: str) -> Iterator[Links]:
    made = Links(bridge, f"tv{os.getpid():x}-")
    made.open_bridge("10.126.0.1", 24)
    yield made
    for name in made.names():
        made.disconnect(name)
    made.close_bridge()
    made.close()
    assert not (_NET / bridge).exists()


def plugged(links: Links, name: str, last: int) -> int:
    def plug(namespace_fd: int) -> None:
        links.connect(name, namespace_fd)

    return kernel_netns.make(plug, f"10.126.0.{last}", "10.126.0.1", ("10.126.0.0/24",))


def link_name(number: int) -> str:
    return f"tv{os.getpid():x}-{number}"


def test_a_bridge_is_up_with_its_address(links: Links, bridge: str) -> None:
    assert (_NET / bridge / "bridge").is_dir()
    assert int((_NET / bridge / "flags").read_text(), 16) & 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("10.126.0.1", 0))


def test_opening_the_bridge_again_changes_nothing(links: Links, bridge: str) -> None:
    index = (_NET / bridge / "ifindex").read_text()
    links.open_bridge("10.126.0.1", 24)
    assert (_NET / bridge / "ifindex").read_text() == index


def test_a_pair_is_an_isolated_port_that_is_up(links: Links, bridge: str) -> None:
    os.close(plugged(links, link_name(1), 2))
    # The namespace is gone with its descriptor, and the pair with it, but not at once.
    fd = plugged(links, link_name(2), 3)
    try:
        port = _NET / link_name(2)
        assert (port / "brport/isolated").read_text().strip() == "1"
        assert int((port / "flags").read_text(), 16) & 1
        assert (port / "master").readlink().name == bridge
        assert not (_NET / kernel_netns.INSIDE / "brport").exists()
    finally:
        os.close(fd)


def test_names_are_those_with_the_prefix(links: Links) -> None:
    fds = [plugged(links, link_name(number), 10 + number) for number in range(3)]
    assert links.names() == {link_name(number) for number in range(3)}
    links.disconnect(link_name(1))
    assert links.names() == {link_name(0), link_name(2)}
    for fd in fds:
        os.close(fd)


def test_removing_what_is_not_there_is_no_error(links: Links) -> None:
    links.disconnect(link_name(7))


def test_what_the_kernel_refuses_is_an_error_with_its_number(links: Links) -> None:
    fd = plugged(links, link_name(1), 20)
    with pytest.raises(FileExistsError):
        links.connect(link_name(1), fd)
    null = os.open("/dev/null", os.O_RDONLY)  # no namespace
    with pytest.raises(OSError) as caught:
        links.connect(link_name(2), null)
    os.close(null)
    assert caught.value.errno in (errno.EBADF, errno.EINVAL)
    assert links.names() == {link_name(1)}
    os.close(fd)
