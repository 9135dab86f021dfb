"""The demonstration: what it finds on a machine, and the file that it deploys."""

from __future__ import annotations

import socket

import pytest

from paas.application.client import parse
from paas.base.errors import PlatformError
from paas.bundle.build import read_manifest
from paas.cli import demo
from paas.cli.session import Session


def test_another_name_is_refused() -> None:
    with Session() as session, pytest.raises(PlatformError, match="no demonstration"):
        demo.demo(session, name="mail")


def test_a_port_that_is_taken_is_not_chosen() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", demo.PORT))
            sock.listen()
        except OSError:
            assert demo.free_port() != demo.PORT  # somebody else's
        assert demo.free_port() != demo.PORT


def test_the_address_is_not_loopback() -> None:
    assert not demo.own_address().startswith("127.")


def test_the_example_is_an_application_whose_sources_are_bundles() -> None:
    folder = demo.example_directory()
    found = parse((folder / "application.toml").read_bytes(), "application.toml")
    assert found.birth_order()[0].name == "timeline"
    for role in found.roles:
        manifest = read_manifest(folder / role.source)
        assert manifest.component.name == f"feeds-{role.name}"
        assert manifest.component.application == "feeds"
    assert {route.path for route in found.routes} == {"/", "/live"}
    assert next(r for r in found.routes if r.path == "/live").websocket
