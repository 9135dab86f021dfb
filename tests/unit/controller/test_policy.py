"""The policy names exactly the methods of messages.py."""

from __future__ import annotations

from paas.controller import messages
from paas.controller.policy import POLICY
from paas.rpc.dispatch import check_policy
from paas.wire.registry import Method


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    methods = {m.name for m in vars(messages).values() if isinstance(m, Method)}
    check_policy(methods, POLICY)


def test_components_may_not_touch_types() -> None:
    for name in ("controller.register_type", "controller.unregister_type"):
        assert POLICY[name].roles == {"operator"}
