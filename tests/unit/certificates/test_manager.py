from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.certificates import manager as module
from paas.certificates import messages
from paas.certificates.manager import CertificateService, methods
from paas.certificates.policy import HUB, POLICY, role_of
from paas.certificates.settings import Settings
from paas.certificates.state import Store
from paas.identity import csr, keys, x509
from paas.identity.names import AgentName
from paas.identity.verify import verify
from paas.rpc.link import PeerCredentials
from paas.wire.registry import BY_NAME


def mint(rig, service: CertificateService, name: AgentName | None = None, **more) -> str:
    name = name or rig.name()
    params = messages.MintToken(subsystem=name.subsystem, id=name.id, node=name.node, **more)
    return service.mint_token(params, rig.controller).token


def redeem(
    rig,
    service: CertificateService,
    token: str,
    *,
    name: AgentName | None = None,
    key: keys.PrivateKey | None = None,
    peer: PeerCredentials | None = None,
) -> messages.Issued:
    request = csr.make(name or rig.name(), key or keys.make_key()).decode()
    return service.redeem(messages.Redeem(token=token, request=request), peer or rig.agent)


@pytest.fixture(scope="module")
def busy(make_rig):
    """One manager, with one token, for many examples."""
    rig = make_rig()
    service = rig.service()
    return rig, service, mint(rig, service)


def assert_denied(rig, reason: str, action) -> None:
    """The log has the reason, the answer has not."""
    with pytest.raises(PlatformError) as caught:
        action()
    assert caught.value.code == "denied"
    assert caught.value.message == "the certificate manager refuses"
    assert caught.value.data == {}
    assert reason in rig.last_reason


def test_a_token_becomes_a_certificate_for_the_key_of_the_request(rig) -> None:
    service, key = rig.service(), keys.make_key()
    issued = redeem(rig, service, mint(rig, service), key=key)
    leaf = x509.read_certificate(issued.certificate.encode())
    assert keys.fingerprint(x509.public_key(leaf)) == keys.fingerprint(key.public_key())
    verdict = verify(issued.certificate.encode(), rig.open()[0].trust, rig.clock.now_ms(), {"hub"})
    assert verdict.name == rig.name()


def test_a_token_is_redeemed_once(rig) -> None:
    service = rig.service()
    token = mint(rig, service)
    redeem(rig, service, token)
    assert_denied(rig, "redeemed for another key", lambda: redeem(rig, service, token))


def test_a_lost_answer_is_given_again_to_the_same_key(rig) -> None:
    service, key = rig.service(), keys.make_key()
    token = mint(rig, service)
    first = redeem(rig, service, token, key=key)
    assert redeem(rig, service, token, key=key) == first
    assert service.describe().certificates == 1


def test_a_lost_answer_is_not_given_after_the_token_s_life(rig) -> None:
    service, key = rig.service(), keys.make_key()
    token = mint(rig, service)
    redeem(rig, service, token, key=key)
    rig.clock.forward(rig.settings.token_life_s)
    assert_denied(rig, "expired token", lambda: redeem(rig, service, token, key=key))


async def test_of_fifty_that_race_with_one_token_one_wins(rig) -> None:
    service = rig.service()
    token = mint(rig, service)
    won: list[messages.Issued] = []
    lost: list[PlatformError] = []

    async def race() -> None:
        key = keys.make_key()
        await trio.lowlevel.checkpoint()
        try:
            won.append(redeem(rig, service, token, key=key))
        except PlatformError as exc:
            lost.append(exc)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(race)
    assert (len(won), len(lost)) == (1, 49)
    assert service.describe().certificates == 1


def test_an_expired_token_is_refused(rig) -> None:
    service = rig.service()
    token = mint(rig, service)
    rig.clock.forward(rig.settings.token_life_s)
    assert_denied(rig, "expired token", lambda: redeem(rig, service, token))


@pytest.mark.parametrize(
    "asked",
    [
        AgentName("c1", "n1", "node", "a1"),
        AgentName("c1", "n1", "hub", "a2"),
        AgentName("c1", "n2", "hub", "a1"),
        AgentName("c2", "n1", "hub", "a1"),
    ],
)
def test_a_token_for_one_name_does_not_do_for_another(rig, asked: AgentName) -> None:
    service = rig.service()
    token = mint(rig, service)
    assert_denied(rig, "was granted hub a1", lambda: redeem(rig, service, token, name=asked))
    redeem(rig, service, token)


def test_a_token_for_one_user_does_not_do_for_another(rig) -> None:
    service = rig.service()
    token = mint(rig, service, uid=1_000)
    thief = PeerCredentials(pid=300, uid=1_001, gid=1_001)
    assert_denied(rig, "for user 1000", lambda: redeem(rig, service, token, peer=thief))
    redeem(rig, service, token)


def test_a_flipped_bit_anywhere_in_a_token_is_refused_and_the_token_stays_good(rig) -> None:
    service = rig.service()
    token = mint(rig, service)
    request = csr.make(rig.name(), keys.make_key()).decode()
    for bit in range(len(token) * 8):
        changed = bytearray(token.encode())
        changed[bit // 8] ^= 1 << bit % 8
        params = messages.Redeem(token=changed.decode("latin-1"), request=request)
        with pytest.raises(PlatformError) as caught:
            service.redeem(params, rig.agent)
        assert caught.value.code == "denied"
    service.redeem(messages.Redeem(token=token, request=request), rig.agent)


def test_a_forged_token_is_refused(rig) -> None:
    service = rig.service()
    real = mint(rig, service)
    forged = real[:-1] + ("0" if real[-1] != "0" else "1")
    assert_denied(rig, "wrong secret", lambda: redeem(rig, service, forged))
    assert_denied(rig, "unknown token", lambda: redeem(rig, service, f"pst1-{'0' * 16}-{'0' * 64}"))
    assert_denied(rig, "not a token", lambda: redeem(rig, service, "please"))


@settings(max_examples=50, deadline=None)
@given(token=st.text(max_size=90), request=st.text(max_size=200))
def test_no_input_makes_the_manager_fail(busy, token: str, request: str) -> None:
    rig, service, good_token = busy
    bad = messages.Redeem(token=token, request=request)
    worse = messages.Redeem(token=good_token, request=request)
    renew = messages.Renew(certificate=token, request=request, proof=token)
    for action, params in ((service.redeem, bad), (service.redeem, worse), (service.renew, renew)):
        with pytest.raises(PlatformError) as caught:
            action(params, rig.agent)
        assert caught.value.code == "denied"


def test_a_damaged_request_is_refused_and_the_token_stays_good(rig) -> None:
    service = rig.service()
    token = mint(rig, service)
    params = messages.Redeem(token=token, request="-----BEGIN CERTIFICATE REQUEST-----")
    assert_denied(rig, "not a certificate request", lambda: service.redeem(params, rig.agent))
    redeem(rig, service, token)


def test_a_full_disk_leaves_the_token_good(rig) -> None:
    service = rig.service()
    token = mint(rig, service)
    rig.disk.fails = errno.ENOSPC
    with pytest.raises(PlatformError) as caught:
        redeem(rig, service, token)
    assert caught.value.code == "storage-full"
    rig.disk.fails = None
    redeem(rig, service, token)


def test_tokens_do_not_survive_a_restart_but_the_authority_does(rig) -> None:
    service = rig.service()
    token, authority = mint(rig, service), service.describe().authority
    service = rig.service()
    assert service.describe().authority == authority
    assert_denied(rig, "unknown token", lambda: redeem(rig, service, token))


@pytest.mark.parametrize(
    "peer",
    [
        PeerCredentials(pid=100, uid=1_000, gid=0),
        PeerCredentials(pid=101, uid=0, gid=0),
    ],
)
def test_only_the_node_controller_gets_tokens(rig, peer: PeerCredentials) -> None:
    params = messages.MintToken(subsystem="hub", id="a1", node="n1")
    with pytest.raises(PlatformError) as caught:
        rig.service().mint_token(params, peer)
    assert caught.value.code == "denied"
    assert "not the node controller" in rig.last_reason


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("subsystem", {"subsystem": "stranger"}),
        ("subsystem", {"subsystem": "No Label"}),
        ("id", {"id": ""}),
        ("node", {"node": "n2"}),
        ("node", {"node": "../n1"}),
    ],
)
def test_a_token_for_an_impossible_agent_is_refused_by_field(rig, field: str, change) -> None:
    params = messages.MintToken(**{"subsystem": "hub", "id": "a1", "node": "n1", **change})
    with pytest.raises(PlatformError) as caught:
        rig.service().mint_token(params, rig.controller)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)


def test_the_number_of_living_tokens_is_bounded_and_the_dead_make_room(rig, monkeypatch) -> None:
    monkeypatch.setattr(module, "TOKENS_MAX", 3)
    service = rig.service()
    redeem(rig, service, mint(rig, service))
    mint(rig, service)
    mint(rig, service)
    assert service.describe().tokens == 2
    with pytest.raises(PlatformError) as caught:
        mint(rig, service)
    assert caught.value.code == "limit-exceeded"
    rig.clock.forward(rig.settings.token_life_s)
    mint(rig, service)
    assert service.describe().tokens == 1


def test_no_token_and_no_key_is_logged(rig) -> None:
    service = rig.service()
    token = mint(rig, service)
    redeem(rig, service, token)
    secret = token.rsplit("-", 1)[1]
    assert rig.events
    assert secret not in repr(rig.events)


# -- renewal -------------------------------------------------------------------------------------


def renewal(
    rig, old: messages.Issued, old_key: keys.PrivateKey, *, name: AgentName | None = None
) -> messages.Renew:
    request = csr.make(name or rig.name(), keys.make_key())
    proof = keys.sign(old_key, messages.renewal_proof_text(csr.read(request).der)).hex()
    return messages.Renew(certificate=old.certificate, request=request.decode(), proof=proof)


def test_a_certificate_is_renewed_for_a_new_key(rig) -> None:
    service, key = rig.service(), keys.make_key()
    old = redeem(rig, service, mint(rig, service), key=key)
    rig.clock.forward(rig.settings.leaf_life_s // 2)
    new = service.renew(renewal(rig, old, key), rig.agent)
    facts = x509.facts(x509.read_certificate(new.certificate.encode()))
    assert facts.end_ms == rig.clock.now_ms() + rig.settings.leaf_life_s * 1_000
    trusted = rig.open()[0].trust
    for pem in (old.certificate, new.certificate):
        assert verify(pem.encode(), trusted, rig.clock.now_ms()).name == rig.name()


def test_a_renewal_without_the_old_key_is_refused(rig) -> None:
    service = rig.service()
    old = redeem(rig, service, mint(rig, service))
    params = renewal(rig, old, keys.make_key())
    assert_denied(rig, "not signed with the key", lambda: service.renew(params, rig.agent))
    odd = messages.Renew(certificate=old.certificate, request=params.request, proof="zz")
    assert_denied(rig, "hexadecimal", lambda: service.renew(odd, rig.agent))


def test_a_renewal_for_another_name_is_refused(rig) -> None:
    service, key = rig.service(), keys.make_key()
    old = redeem(rig, service, mint(rig, service), key=key)
    params = renewal(rig, old, key, name=rig.name("node"))
    assert_denied(rig, "was granted hub a1", lambda: service.renew(params, rig.agent))


def test_an_expired_certificate_is_not_renewed(rig) -> None:
    service, key = rig.service(), keys.make_key()
    old = redeem(rig, service, mint(rig, service), key=key)
    rig.clock.forward(rig.settings.leaf_life_s + 61)
    params = renewal(rig, old, key)
    assert_denied(rig, "expired", lambda: service.renew(params, rig.agent))


def test_a_certificate_that_is_not_on_record_is_not_renewed(rig) -> None:
    service, key = rig.service(), keys.make_key()
    old = redeem(rig, service, mint(rig, service), key=key)
    Store(rig.disk).save_issued([])  # as after a restore from an older backup
    service = rig.service()
    params = renewal(rig, old, key)
    assert_denied(rig, "not on record", lambda: service.renew(params, rig.agent))


def test_a_certificate_of_another_authority_is_not_renewed(rig) -> None:
    service, key = rig.service(), keys.make_key()
    other = type(rig)()
    stranger = other.service()
    foreign = redeem(other, stranger, mint(other, stranger), key=key)
    params = renewal(rig, foreign, key)
    assert_denied(
        rig, "not signed by that of this cluster", lambda: service.renew(params, rig.agent)
    )


# -- the table -----------------------------------------------------------------------------------


def test_every_declared_method_is_answered_and_has_a_policy(rig) -> None:
    declared = {name for name in BY_NAME if name.startswith("certificates.")}
    assert set(methods(rig.service())) == declared == set(POLICY)


def test_the_description_names_authority_and_counts(rig) -> None:
    service = rig.service()
    mint(rig, service)
    answer = methods(service)["certificates.authority"](messages.DescribeAuthority(), rig.agent)
    assert isinstance(answer, messages.AuthorityInfo)
    assert (answer.cluster, answer.certificates, answer.tokens) == ("c1", 0, 1)
    assert "BEGIN CERTIFICATE" in answer.authority


# -- authorities of nodes ------------------------------------------------------------------------


def test_a_node_is_certified_for_its_own_request_only(rig) -> None:
    service = rig.service()
    request = csr.make_node("c1", "n2", keys.make_key()).decode()
    answer = service.certify_node(messages.CertifyNode(request=request, node="n2"), rig.agent)
    assert answer.chain.count("BEGIN CERTIFICATE") == 2
    for wrong in (
        messages.CertifyNode(request=request, node="n3"),
        messages.CertifyNode(request="garbage", node="n2"),
        messages.CertifyNode(
            request=csr.make_node("c2", "n2", keys.make_key()).decode(), node="n2"
        ),
    ):
        with pytest.raises(PlatformError) as caught:
            service.certify_node(wrong, rig.agent)
        assert caught.value.code == "denied"


def test_the_holder_needs_nobody_to_renew_its_node_s_authority(rig) -> None:
    service = rig.service()
    rig.clock.forward(364 * 86_400)
    answer = service.node_request(messages.DescribeNodeRequest(), rig.agent)
    assert (answer.node, answer.due) == ("n1", False)
    chain = service.certify_node(
        messages.CertifyNode(request=answer.request, node="n1"), rig.agent
    ).chain
    service.install_node(messages.InstallNode(chain=chain), rig.agent)
    assert service.describe().node_authority in chain


def test_a_hub_is_known_by_its_user(rig) -> None:
    hub = Settings(cluster="c1", node="n1", directory="/state", socket_path="/run/s", hub_uid=1_000)
    assert role_of(rig.agent, hub) == HUB
    assert role_of(rig.agent, rig.settings) == "local"
    assert HUB in POLICY["certificates.certify_node"].roles
    assert "local" not in POLICY["certificates.certify_node"].roles
