"""Chains of three: what a node's authority may sign, in our verification and in real handshakes."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import trio
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes

from paas.base.errors import PlatformError
from paas.identity import csr, keys, names, tls, x509
from paas.identity.names import AgentName
from paas.identity.tls import Identity
from paas.identity.verify import node_authority, verify


def reason(world, identity: Identity, now_ms: int | None = None) -> str:
    return verify(identity.certificate_pem, world.trust, now_ms or world.now_ms).reason


def test_an_agent_signed_by_its_node_s_authority_is_believed(world) -> None:
    name = world.name("node", node="n2")
    identity = world.identity_of(name, world.node_authority("n2"))
    verdict = verify(identity.certificate_pem, world.trust, world.now_ms, {"node"})
    assert (verdict.name, verdict.reason) == (name, "")
    assert "spawn:hub" in verdict.capabilities


def test_the_chain_may_come_apart_from_the_certificate(world) -> None:
    identity = world.identity_of(world.name("hub"), world.node_authority())
    leaf, above = x509.read_chain(identity.certificate_pem)
    der = x509.certificate_der(leaf)
    assert not verify(der, world.trust, world.now_ms).accepted
    assert verify(der, world.trust, world.now_ms, chain=[x509.certificate_der(above)]).accepted


@pytest.mark.parametrize("node", ["n2", "a.n1", "n", "n11"])
def test_an_agent_of_another_node_is_refused_by_name(world, node: str) -> None:
    forged = world.identity_of(world.name("hub", node=node), world.node_authority("n1"))
    assert reason(world, forged) == (
        f"for an agent of the node {node}, signed by the authority of the node n1"
    )


def test_a_node_authority_of_another_cluster_is_refused(world, make_world) -> None:
    other = make_world("c2")
    forged = other.identity_of(world.name("hub"), other.node_authority("n1"))
    assert "not signed by that of this cluster" in reason(world, forged)


def test_a_node_authority_that_names_another_cluster_is_refused(world) -> None:
    odd = x509.make_node_authority(
        world.authority,
        "c2",
        "n1",
        keys.make_key().public_key(),
        serial=3,
        now_ms=world.now_ms,
        life_s=60,
    )
    with pytest.raises(PlatformError) as caught:
        node_authority(odd, world.trust, world.now_ms)
    assert caught.value.data["reason"] == "the authority is of the cluster c2, not of c1"


def test_a_node_authority_makes_no_authorities(world) -> None:
    upper = world.node_authority("n1")
    key = keys.make_key()
    lower = x509.make_node_authority(
        upper, "c1", "n1", key.public_key(), serial=3, now_ms=world.now_ms, life_s=600
    )
    forged = world.identity_of(world.name("hub"), x509.Authority(lower, key))
    chain = forged.certificate_pem + x509.certificate_pem(upper.certificate)
    verdict = verify(chain, world.trust, world.now_ms)
    assert "not signed by that of this cluster" in verdict.reason


def test_an_agent_makes_no_agents(world) -> None:
    key = keys.make_key()
    agent = world.leaf(world.name("hub"), key)
    forged = world.identity_of(world.name("node"), x509.Authority(agent, key))
    assert reason(world, forged) == "signed by something that is no authority"


def test_the_times_of_a_node_authority_count(world) -> None:
    name = world.name("hub")
    late = world.identity_of(name, world.node_authority(begins_in_s=-7_200, life_s=3_600))
    assert reason(world, late) == "the authority of the node n1 has expired"
    early = world.identity_of(name, world.node_authority(begins_in_s=3_600))
    assert reason(world, early) == "the authority of the node n1 is not valid yet"


def test_an_authority_from_before_there_were_nodes_makes_none(world) -> None:
    old = of_path_length_0(world)
    identity = old.identity_of(old.name("hub"), old.node_authority())
    assert "may not make authorities" in reason(old, identity)


def of_path_length_0(world):
    key = keys.make_key()
    new = x509.make_authority("c1", key, serial=1, now_ms=world.now_ms, life_s=30 * 86_400)
    builder = library.CertificateBuilder(
        new.subject,
        new.subject,
        key.public_key(),
        1,
        new.not_valid_before_utc,
        new.not_valid_after_utc,
    )
    for extension in new.extensions:
        value = extension.value
        if isinstance(value, library.BasicConstraints):
            value = library.BasicConstraints(ca=True, path_length=0)
        builder = builder.add_extension(value, extension.critical)
    return type(world)("c1", x509.Authority(builder.sign(key, hashes.SHA256()), key), world.now_ms)


def test_too_long_a_chain_is_refused(world) -> None:
    identity = world.identity_of(world.name("hub"), world.node_authority())
    verdict = verify(identity.certificate_pem * 3, world.trust, world.now_ms)
    assert "more than 4 certificates" in verdict.reason


def test_the_name_of_a_node_is_read_back_and_nothing_else_is() -> None:
    assert names.node_from_uri(names.node_uri("c1", "a.b")) == ("c1", "a.b")
    for uri in (AgentName("c1", "n1", "hub", "a").uri, "spiffe://c1/node/N", "spiffe://c1/node/"):
        assert names.node_from_uri(uri) is None


def test_a_request_of_a_node_is_read_back() -> None:
    key = keys.make_key()
    asked = csr.read_node(csr.make_node("c1", "n2", key))
    assert (asked.cluster, asked.node) == ("c1", "n2")
    assert keys.fingerprint(asked.key) == keys.fingerprint(key.public_key())


def test_a_request_of_an_agent_is_not_one_of_a_node() -> None:
    name = AgentName("c1", "n2", "hub", "a1")
    with pytest.raises(keys.Malformed, match="name of a node"):
        csr.read_node(csr.make(name, keys.make_key()))
    with pytest.raises(keys.Malformed, match="name of an agent"):
        csr.read(csr.make_node("c1", "n2", keys.make_key()))
    with pytest.raises(keys.Malformed, match="not a certificate request"):
        csr.read_node(b"garbage")
    with pytest.raises(keys.Malformed, match="node"):
        csr.read_node(csr.make_node("c1", "Not A Node", keys.make_key()))


# -- what the openssl command thinks -------------------------------------------------------------


def openssl(tmp_path: Path, world, identity: Identity) -> str:
    program = shutil.which("openssl")
    assert program, "the openssl command is needed"
    leaf, above = x509.read_chain(identity.certificate_pem)
    for name, one in (("root", world.authority.certificate), ("leaf", leaf), ("node", above)):
        (tmp_path / name).write_bytes(x509.certificate_pem(one))
    arguments = [program, "verify", "-x509_strict", "-purpose", "sslserver"]
    arguments += ["-CAfile", str(tmp_path / "root"), "-untrusted", str(tmp_path / "node")]
    done = subprocess.run(
        [*arguments, str(tmp_path / "leaf")], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_openssl_accepts_the_chain_and_refuses_another_node_s_host_name(world, tmp_path) -> None:
    signer = world.node_authority("n1")
    assert openssl(tmp_path, world, world.identity_of(world.name("hub"), signer)) == ""
    forged = world.identity_of(world.name("hub", node="n2"), signer)
    assert "permitted subtree violation" in openssl(tmp_path, world, forged)


# -- handshakes ----------------------------------------------------------------------------------


async def meet(world, server: Identity, client: Identity) -> list[AgentName | str]:
    """Who each end says the other is, or why it refused; the server's word first."""
    socks = socket.socketpair()
    contexts = tls.server_context(server), tls.client_context(client)
    ends: list[AgentName | str] = ["", ""]

    async def one(place: int) -> None:
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(socks[place]))
        stream = trio.SSLStream(plain, contexts[place], server_side=place == 0)
        try:
            await stream.do_handshake()
            ends[place], _ = tls.authenticate(stream, world.trust, world.now_ms, None)
            assert tls.peer_identity(stream) == ends[place]
            await stream.send_all(b"x")
            await stream.receive_some(1)
        except (PlatformError, trio.BrokenResourceError) as exc:
            if not ends[place]:
                ends[place] = f"{exc} {exc.__cause__}"
        finally:
            await trio.aclose_forcefully(stream)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for place in range(2):
                nursery.start_soon(one, place)
    return ends


async def test_agents_of_two_nodes_meet(world) -> None:
    one, two = world.name("hub"), world.name("hub", node="n2")
    found = await meet(
        world,
        world.identity_of(one, world.node_authority("n1")),
        world.identity_of(two, world.node_authority("n2")),
    )
    assert found == [two, one]


async def test_an_agent_of_the_cluster_s_authority_meets_one_of_a_node_s(world) -> None:
    one, two = world.name("hub"), world.name("hub", node="n2")
    direct = world.identity("hub")
    found = await meet(world, direct, world.identity_of(two, world.node_authority("n2")))
    assert found == [two, one]


@pytest.mark.parametrize("node", ["n2", "a.n1"])
@pytest.mark.parametrize("forger", ["server", "client"])
async def test_a_forged_agent_of_another_node_is_refused(world, node: str, forger: str) -> None:
    """OpenSSL refuses n2 by the host name; `a.n1` is within its constraint, and ours to refuse."""
    good = world.identity_of(world.name("hub", node="n3"), world.node_authority("n3"))
    forged = world.identity_of(world.name("hub", node=node), world.node_authority("n1"))
    ends = await meet(world, *((forged, good) if forger == "server" else (good, forged)))
    judge = ends[1 if forger == "server" else 0]
    assert isinstance(judge, str)
    expected = "signed by the authority of the node n1" if "." in node else "permitted subtree"
    assert expected in judge


async def test_without_the_node_s_certificate_an_agent_is_refused(world) -> None:
    good = world.identity_of(world.name("hub"), world.node_authority("n1"))
    leaf = x509.certificate_pem(x509.read_chain(good.certificate_pem)[0])
    bare = Identity(leaf, good.key_pem, good.authority_pem)
    ends = await meet(world, good, bare)
    assert "certificate verify failed" in str(ends[0])


def test_where_chains_cannot_be_had_a_node_s_agent_is_refused(world) -> None:
    identity = world.identity_of(world.name("hub"), world.node_authority())
    der = x509.certificate_der(x509.read_chain(identity.certificate_pem)[0])

    class Bare:
        def getpeercert(self, binary_form: bool) -> bytes:
            return der

    with pytest.raises(PlatformError, match="not signed by the authority of this cluster"):
        tls.authenticate(Bare(), world.trust, world.now_ms, None)


async def test_a_node_that_joins_sees_the_chain_up_to_the_authority(world) -> None:
    near, far = socket.socketpair()
    server = world.identity_of(world.name("hub"), world.node_authority())
    shown: list[tuple[bytes, ...]] = []

    async def one(sock: socket.socket, context: ssl.SSLContext, accepts: bool) -> None:
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        stream = trio.SSLStream(plain, context, server_side=accepts)
        await stream.do_handshake()
        if not accepts:
            shown.append(tls.shown_chain(stream))
            await stream.send_all(b"done")
        else:
            await stream.receive_some(4)
        await trio.aclose_forcefully(stream)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, near, tls.join_server_context(server), True)
            nursery.start_soon(one, far, tls.join_client_context(), False)
    whole = x509.read_chain(server.certificate_pem + server.authority_pem)
    assert shown == [tuple(x509.certificate_der(one) for one in whole)]
