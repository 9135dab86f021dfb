"""What a hub answers about join tokens: made, listed and revoked."""

from __future__ import annotations

from typing import Any

import pytest

from paas.assembly.joining_face import POLICY, JoiningFace
from paas.base.errors import PlatformError
from paas.certificates import messages
from paas.certificates.join_state import JoinTokenState, UseJoinToken, new_token
from paas.identity import join_tokens
from paas.node.state import AddNode, ChangeNode, NodeRegister, RemoveNode, ReportNode
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine
from paas.rpc.dispatch import Context


class Clock:
    ms = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1_000


class World:
    """The face of one hub, over the real sections of the state."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tokens, self.register = JoinTokenState(), NodeRegister()
        self.machine = Machine([self.tokens, self.register])
        self.index = 0
        nothing: Any = None
        self.face = JoiningFace(
            cluster="c1",
            listen="192.0.2.1:7421",
            authority_socket="",
            log=self,
            links=nothing,
            register=self.register,
            tokens=self.tokens,
            book=nothing,
            own_address=("n1", "192.0.2.1:7420"),
            clock=self.clock,
            entropy=nothing,
            logger=nothing,
            identity=lambda: nothing,
        )
        self.context = Context(peer=nothing, request=nothing, timeout_s=5.0)

    async def propose(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        return self.apply(command)

    async def barrier(self) -> None:
        return None

    def apply(self, command: Any) -> Any:
        self.index += 1
        stamp = Stamp(self.clock.now_ms(), bytes(SEED_BYTES), "t", self.index)
        applied = self.machine.apply(self.index, encode(command, stamp))
        if applied.error is not None:
            raise applied.error
        return applied.result

    def token(self) -> str:
        entropy = bytes([self.index + 1]) * join_tokens.ENTROPY_BYTES
        text, command = new_token(entropy, "ab" * 32, now_ms=self.clock.ms, life_s=600)
        self.apply(command)
        return text

    def use(self, text: str, node: str) -> None:
        token = join_tokens.parse(text)
        assert token is not None
        address = f"192.0.2.{node[1:]}:7420"
        self.apply(
            UseJoinToken(
                token_id=token.id, digest=token.digest(), node=node, key="k", address=address
            )
        )
        self.apply(AddNode(node=node, address=address))

    async def revoke(self, token: str) -> messages.TokenInfo:
        return await self.face.revoke_token(messages.RevokeToken(token=token), self.context)

    def listed(self) -> list[tuple[str, str]]:
        found = self.face.tokens(messages.ListTokens(), self.context).tokens
        return [(one.state, one.node) for one in found]


def id_of(text: str) -> str:
    token = join_tokens.parse(text)
    assert token is not None
    return token.id


async def test_a_revoked_token_lets_nobody_in() -> None:
    world = World()
    by_id, whole, other = world.token(), world.token(), world.token()
    assert (await world.revoke(id_of(by_id))).state == "revoked"
    assert (await world.revoke(f"  {whole}\n")).id == id_of(whole)
    for text in (by_id, whole):
        with pytest.raises(PlatformError) as caught:
            world.use(text, "n2")
        assert caught.value.code == "denied"
    world.use(other, "n2")
    assert world.listed() == [("revoked", ""), ("revoked", ""), ("used", "n2")]


async def test_who_used_a_revoked_token_is_named_and_stays() -> None:
    world = World()
    text = world.token()
    world.use(text, "n2")
    assert (await world.revoke(id_of(text))).node == "n2"
    assert world.register.get("n2") is not None


async def test_an_unknown_token_is_an_error_that_says_how_to_find_the_right_one() -> None:
    with pytest.raises(PlatformError) as caught:
        await World().revoke("0" * 16)
    assert caught.value.code == "no-such-target"
    assert "--list" in caught.value.hint


async def test_a_token_that_nobody_used_in_time_is_listed_as_expired() -> None:
    world = World()
    used, _unused = world.token(), world.token()
    world.use(used, "n2")
    world.clock.ms += 601_000
    assert world.listed() == [("used", "n2"), ("expired", "")]
    [first, _] = world.face.tokens(messages.ListTokens(), world.context).tokens
    assert first.expires == world.clock.ms / 1_000 - 1


def test_tokens_are_for_operators() -> None:
    for method in (messages.CREATE_TOKEN, messages.REVOKE_TOKEN, messages.LIST_TOKENS):
        assert POLICY[method.name].roles == frozenset({"operator"})


# -- names ---------------------------------------------------------------------------------------


def test_a_name_that_cannot_be_had_is_refused_with_the_reason_and_what_to_do() -> None:
    world = World()
    for name in ("n1", "n2", "n3", "n4"):
        world.apply(
            ReportNode(
                node=name, memory_bytes=1, cpu=1.0, address=f"192.0.2.{name[1:]}:7420", leased=True
            )
        )
    for name in ("n2", "n4"):
        world.apply(RemoveNode(node=name, force=True))
    world.apply(ChangeNode(node="n2", event="cleared"))
    for name, why in (
        ("n2", "was removed from this cluster, and its name with it"),
        ("n3", "is in this cluster already"),
        ("n4", "is being removed from this cluster"),
    ):
        with pytest.raises(PlatformError, match=why) as caught:
            world.face._check(name, "k", "192.0.2.9:7420")
        assert caught.value.code == "conflict"
        assert "--name" in caught.value.hint
