from __future__ import annotations

import errno

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes

from paas.base.errors import LocalError, PlatformError
from paas.certificates import authority as module
from paas.certificates import node_chain
from paas.certificates.authority import refusal
from paas.certificates.lifecycle import Certificate
from paas.certificates.limits import AUTHORITY_LIFE_S, NODE_AUTHORITY_LIFE_S
from paas.certificates.state import (
    AUTHORITY_FILE,
    ISSUED_FILE,
    NODE_AUTHORITY_FILE,
    NODE_KEY_FILE,
    Store,
)
from paas.identity import csr, keys, x509
from paas.identity.names import AgentName
from paas.identity.verify import verify


def ask(name: AgentName) -> csr.Asked:
    return csr.read(csr.make(name, keys.make_key()))


def issue(authority, name: AgentName, **more) -> x509.Certificate:
    return x509.read_certificate(
        authority.issue(name, ask(name), **{"life_s": 3_600, **more}).encode()
    )


def serials(rig) -> set[str]:
    return {record.serial for record in Store(rig.disk).load_issued() or []}


def test_the_first_start_makes_an_authority_and_the_next_finds_it(rig) -> None:
    first, made = rig.open()
    again, made_again = rig.open()
    assert (made, made_again) == (True, False)
    assert first.pem == again.pem


def test_two_first_starts_make_two_authorities(rig) -> None:
    other = type(rig)()
    assert rig.open()[0].pem != other.open()[0].pem


@pytest.mark.parametrize("power", [False, True])
def test_a_first_start_that_is_cut_off_anywhere_can_begin_again(rig, power: bool) -> None:
    whole = type(rig)()
    whole.open()
    for steps in range(whole.disk.operations):
        cut = type(rig)()
        cut.disk.cut_after = steps
        with pytest.raises(rig.cut_off):
            cut.open()
        cut.disk.cut_after = None
        if power:
            cut.disk.power_cut()
        authority, _ = cut.open()
        assert cut.open()[0].pem == authority.pem, f"after {steps} operations"


@pytest.mark.parametrize("power", [False, True])
def test_a_cut_off_anywhere_while_issuing_forgets_no_certificate_that_got_out(rig, power) -> None:
    authority, _ = rig.open()
    before = rig.disk.operations
    issue(authority, rig.name())
    steps_of_one = rig.disk.operations - before
    for steps in range(steps_of_one):
        old = serials(rig)
        rig.disk.cut_after = steps
        with pytest.raises(rig.cut_off):
            issue(authority, rig.name())
        rig.disk.cut_after = None
        if power:
            rig.disk.power_cut()
        authority, _ = rig.open()
        assert old <= serials(rig), f"after {steps} operations"
        leaf = issue(authority, rig.name())
        if power:
            rig.disk.power_cut()
        assert f"{leaf.serial_number:032x}" in serials(rig)


def test_a_full_disk_gives_nothing_out_and_recovers(rig) -> None:
    authority, _ = rig.open()
    rig.disk.fails = errno.ENOSPC
    with pytest.raises(PlatformError) as caught:
        issue(authority, rig.name())
    assert caught.value.code == "storage-full"
    assert authority.certificates == 0
    rig.disk.fails = None
    issue(authority, rig.name())
    assert authority.certificates == 1


@pytest.mark.parametrize("missing", [AUTHORITY_FILE, ISSUED_FILE])
def test_one_file_without_the_other_is_refused_by_name(rig, missing: str) -> None:
    authority, _ = rig.open()
    issue(authority, rig.name())
    del rig.disk.names[missing]
    with pytest.raises(PlatformError) as caught:
        rig.open()
    assert (caught.value.code, caught.value.data["file"]) == ("corrupt", missing)
    assert missing not in rig.disk.names


def test_the_authority_of_another_cluster_is_refused(rig) -> None:
    rig.open("c1")
    with pytest.raises(PlatformError) as caught:
        rig.open("c2")
    assert caught.value.code == "conflict"


def test_an_expired_authority_is_refused_at_start_and_signs_nothing(rig) -> None:
    authority, _ = rig.open()
    rig.clock.forward(AUTHORITY_LIFE_S + 1)
    with pytest.raises(PlatformError, match="expired"):
        issue(authority, rig.name())
    with pytest.raises(PlatformError) as caught:
        rig.open()
    assert caught.value.code == "untrusted"


def test_no_certificate_outlives_its_authority(rig) -> None:
    authority, _ = rig.open()
    rig.clock.forward(AUTHORITY_LIFE_S - 600)
    leaf = issue(authority, rig.name())
    assert x509.facts(leaf).end_ms == authority.facts.end_ms


def test_what_is_issued_is_believed(rig) -> None:
    authority, _ = rig.open()
    leaf = issue(authority, rig.name("node"))
    above = [authority.node_pem.encode()]
    now_ms = rig.clock.now_ms()
    der = x509.certificate_der(leaf)
    assert not verify(der, authority.trust, now_ms, {"node"}).accepted
    verdict = verify(der, authority.trust, now_ms, {"node"}, chain=above)
    assert verdict.name == rig.name("node")


def test_records_of_certificates_that_ended_are_dropped(rig) -> None:
    authority, _ = rig.open()
    old = issue(authority, rig.name())
    rig.clock.forward(3_601)
    issue(authority, rig.name())
    assert authority.certificates == 1
    assert not authority.knows(old.serial_number)


def test_a_renewed_certificate_is_marked_and_stays_on_record(rig) -> None:
    authority, _ = rig.open()
    old = issue(authority, rig.name())
    for _ in range(2):
        issue(authority, rig.name(), renews=old.serial_number)
    states = {r.serial: r.state for r in Store(rig.disk).load_issued() or []}
    assert states[f"{old.serial_number:032x}"] is Certificate.RENEWED
    assert len(states) == 4
    assert authority.certificates == 3


def test_too_many_certificates_on_record_are_refused(rig, monkeypatch) -> None:
    monkeypatch.setattr(module, "ISSUED_MAX", 3)  # one is that of the node's authority
    authority, _ = rig.open()
    issue(authority, rig.name())
    issue(authority, rig.name())
    with pytest.raises(PlatformError) as caught:
        issue(authority, rig.name())
    assert caught.value.code == "limit-exceeded"


class SameEntropy:
    def bytes(self, count: int) -> bytes:
        return bytes(count)

    def fraction(self) -> float:
        return 0.0


def test_a_serial_number_is_never_used_twice(rig) -> None:
    rig.entropy = SameEntropy()
    authority, _ = rig.open()
    with pytest.raises(LocalError, match="entropy"):
        issue(authority, rig.name())


def test_a_request_for_what_was_not_granted_is_refused_with_the_reason(rig) -> None:
    assert refusal(rig.name(), ask(rig.name())) == ""
    assert "asks for node a1" in refusal(rig.name("hub"), ask(rig.name("node")))
    assert "no role" in refusal(rig.name("stranger"), ask(rig.name("stranger")))


# -- authorities of nodes ------------------------------------------------------------------------


def make_old(rig) -> x509.Certificate:
    """Turn the directory into one from before there were authorities of nodes."""
    rig.open()
    key = Store(rig.disk).load_authority().key
    new = x509.make_authority("c1", key, serial=5, now_ms=rig.clock.now_ms(), life_s=10_000_000)
    builder = library.CertificateBuilder(
        new.subject,
        new.subject,
        key.public_key(),
        5,
        new.not_valid_before_utc,
        new.not_valid_after_utc,
    )
    for extension in new.extensions:
        value = extension.value
        if isinstance(value, library.BasicConstraints):
            value = library.BasicConstraints(ca=True, path_length=0)
        builder = builder.add_extension(value, extension.critical)
    old = builder.sign(key, hashes.SHA256())
    for name in (NODE_KEY_FILE, NODE_AUTHORITY_FILE):
        del rig.disk.names[name]
    Store(rig.disk).save_issued([])
    Store(rig.disk).save_authority(x509.Authority(old, key))
    return old


def test_an_old_directory_is_brought_up_to_date_and_what_it_signed_stays_good(rig) -> None:
    old = make_old(rig)
    pair = Store(rig.disk).load_authority()
    name = rig.name()
    leaf = x509.make_leaf(
        pair,
        name,
        keys.make_key().public_key(),
        serial=3,
        now_ms=rig.clock.now_ms(),
        life_s=3_600,
        capabilities=frozenset(),
    )
    authority, made = rig.open()
    assert not made
    assert authority.fingerprint == keys.fingerprint(x509.public_key(old))
    assert authority.facts.path_length == 1
    assert authority.facts.end_ms == x509.facts(old).end_ms
    now_ms = rig.clock.now_ms()
    assert verify(x509.certificate_der(leaf), authority.trust, now_ms).name == name
    new = authority.issue(name, ask(name), life_s=3_600).encode()
    assert verify(new, authority.trust, now_ms).name == name
    assert rig.open()[0].pem == authority.pem


@pytest.mark.parametrize("power", [False, True])
def test_bringing_up_to_date_can_be_cut_off_anywhere(rig, power: bool) -> None:
    whole = type(rig)()
    make_old(whole)
    before = whole.disk.operations
    whole.open()
    for steps in range(whole.disk.operations - before):
        cut = type(rig)()
        old = make_old(cut)
        cut.disk.cut_after = steps
        with pytest.raises(rig.cut_off):
            cut.open()
        cut.disk.cut_after = None
        if power:
            cut.disk.power_cut()
        assert cut.open()[0].fingerprint == keys.fingerprint(x509.public_key(old))


def test_the_holder_renews_its_own_node_s_authority_with_the_same_key(rig) -> None:
    authority, _ = rig.open()
    first = authority.node_pem
    key = bytes(rig.disk.names[NODE_KEY_FILE])
    rig.clock.forward(NODE_AUTHORITY_LIFE_S // 2)
    leaf = authority.issue(rig.name(), ask(rig.name()), life_s=3_600).encode()
    assert authority.node_pem != first
    assert bytes(rig.disk.names[NODE_KEY_FILE]) == key
    assert verify(leaf, authority.trust, rig.clock.now_ms()).accepted
    rig.clock.forward(2 * NODE_AUTHORITY_LIFE_S)
    assert rig.open()[0].node_facts.end_ms > rig.clock.now_ms()


def test_the_holder_certifies_other_nodes_and_never_its_own_name_for_another_key(rig) -> None:
    authority, _ = rig.open()
    asked = csr.read_node(csr.make_node("c1", "n2", keys.make_key()))
    chain = node_chain.read(authority.certify_node(asked).encode())
    node_chain.check(
        chain,
        cluster="c1",
        node="n2",
        key=asked.key,
        authority=authority.fingerprint,
        now_ms=rig.clock.now_ms(),
    )
    assert authority.certificates == 0
    assert f"{chain.certificate.serial_number:032x}" in serials(rig)
    with pytest.raises(PlatformError) as caught:
        authority.certify_node(csr.read_node(csr.make_node("c1", "n1", keys.make_key())))
    assert caught.value.code == "conflict"
    authority.certify_node(csr.read_node(authority.node_request().encode()))


@pytest.mark.parametrize("name", [NODE_KEY_FILE, NODE_AUTHORITY_FILE])
def test_a_node_file_torn_anywhere_is_refused_by_name(rig, name: str) -> None:
    rig.open()
    whole = bytes(rig.disk.names[name])
    for end in range(0, len(whole) - 1, 11):
        rig.disk.names[name][:] = whole[:end]
        with pytest.raises(PlatformError) as caught:
            rig.open()
        assert (caught.value.code, caught.value.data["file"]) == ("corrupt", name)


def test_a_node_key_of_another_is_refused(rig) -> None:
    rig.open()
    Store(rig.disk).save_node_key(keys.make_key())
    with pytest.raises(PlatformError, match="do not belong together"):
        rig.open()
