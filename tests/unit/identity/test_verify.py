"""Every step of `verify`, with certificates that only a compromised authority would make."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from paas.base.errors import PlatformError
from paas.identity import keys, x509
from paas.identity.limits import CLOCK_SKEW_S
from paas.identity.verify import Trust, trust, verify

SKEW_MS = CLOCK_SKEW_S * 1_000
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def der(certificate: x509.Certificate) -> bytes:
    return x509.certificate_der(certificate)


def odd(world, change: Callable[[dict], None], key=None) -> bytes:
    """A leaf signed by the world's authority with one thing changed by `change`."""
    name = world.name("hub")
    now = datetime.datetime.fromtimestamp(world.now_ms // 1_000, datetime.UTC)
    parts = {
        "subject": x509.subject(name),
        "ca": library.BasicConstraints(ca=False, path_length=None),
        "usage": {"digital_signature": True, "key_cert_sign": False},
        "purposes": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        "names": [library.UniformResourceIdentifier(name.uri), library.DNSName(name.dns)],
        "more": [],
        "hash": hashes.SHA256(),
    }
    change(parts)
    usage = dict.fromkeys(USAGES, False)
    builder = library.CertificateBuilder(
        world.authority.certificate.subject,
        parts["subject"],
        (key or keys.make_key()).public_key(),
        9,
        now,
        now + datetime.timedelta(days=1),
    )
    extensions = [
        (parts["ca"], True),
        (library.KeyUsage(**usage | parts["usage"]), True),
        (library.ExtendedKeyUsage(parts["purposes"]), False),
        *([(library.SubjectAlternativeName(parts["names"]), False)] if parts["names"] else []),
        *parts["more"],
    ]
    for extension, critical in extensions:
        if extension is not None:
            builder = builder.add_extension(extension, critical)
    signed = builder.sign(world.authority.key, parts["hash"])
    return signed.public_bytes(serialization.Encoding.DER)


def test_a_good_certificate_gives_name_and_capabilities(world) -> None:
    name = world.name("node")
    verdict = verify(der(world.leaf(name, keys.make_key())), world.trust, world.now_ms, {"node"})
    assert verdict.accepted
    assert (verdict.name, verdict.reason) == (name, "")
    assert "spawn:hub" in verdict.capabilities


def test_the_unchanged_form_of_the_odd_ones_is_accepted(world) -> None:
    verdict = verify(odd(world, lambda parts: None), world.trust, world.now_ms)
    assert verdict.name == world.name("hub")


def _set(**changes: object) -> Callable[[dict], None]:
    return lambda parts: parts.update(changes)


URI = library.UniformResourceIdentifier
DNS = library.DNSName
GOOD = "spiffe://c1/node/n1/agent/hub/a1"
HOST = "a1.n1.c1"

ODD = {
    "marked as an authority": (
        _set(ca=library.BasicConstraints(ca=True, path_length=0)),
        "authority is not",
    ),
    "without basic constraints": (_set(ca=None), "authority is not"),
    "may sign certificates": (
        _set(usage={"digital_signature": True, "key_cert_sign": True}),
        "authority is not",
    ),
    "may not sign data": (_set(usage={"key_agreement": True}), "both ends"),
    "only a server": (_set(purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), "both ends"),
    "only a client": (_set(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]), "both ends"),
    "no alternative names": (_set(names=None), "one URI"),
    "two URIs": (_set(names=[URI(GOOD), URI(GOOD), DNS(HOST)]), "one URI"),
    "an address beside": (
        _set(names=[URI(GOOD), DNS(HOST), library.RFC822Name("a@c1")]),
        "one URI",
    ),
    "another URI than subject": (
        _set(names=[URI("spiffe://c1/node/n1/agent/node/a1"), DNS(HOST)]),
        "subject and the URI differ",
    ),
    "a foreign URI": (_set(names=[URI("https://c1/"), DNS(HOST)]), "not the name of an agent"),
    "another host name": (_set(names=[URI(GOOD), DNS("a2.n1.c1")]), "host name and the URI differ"),
    "unknown critical extension": (
        _set(
            more=[(library.UnrecognizedExtension(library.ObjectIdentifier("1.2.3"), b"\5\0"), True)]
        ),
        "unknown critical extension 1.2.3",
    ),
    "unreadable capabilities": (
        _set(more=[(library.UnrecognizedExtension(x509.CAPABILITIES_OID, b"\4\1a"), False)]),
        "UTF8String",
    ),
    "capabilities in a second form": (
        _set(more=[(library.UnrecognizedExtension(x509.CAPABILITIES_OID, b"\x0c\x03b a"), False)]),
        "unreadable part",
    ),
    "another hash": (_set(hash=hashes.SHA384()), "SHA-256"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_certificate_is_refused_with_its_reason(world, case: str) -> None:
    change, reason = ODD[case]
    verdict = verify(odd(world, change), world.trust, world.now_ms)
    assert not verdict.accepted
    assert reason in verdict.reason


def test_a_weak_key_is_refused(world) -> None:
    weak = ec.generate_private_key(ec.SECP192R1())
    verdict = verify(odd(world, lambda parts: None, weak), world.trust, world.now_ms)
    assert "P-256" in verdict.reason


def test_another_authority_with_the_same_names_is_refused(world, make_world) -> None:
    leaf = make_world(world.cluster).leaf(world.name("hub"), keys.make_key())
    verdict = verify(der(leaf), world.trust, world.now_ms)
    assert verdict.reason == "not signed by the authority of this cluster"


def test_a_self_signed_certificate_is_refused(world, make_world) -> None:
    lone = make_world(world.cluster)
    verdict = verify(der(lone.authority.certificate), world.trust, world.now_ms)
    assert "not signed" in verdict.reason


def test_the_authority_itself_is_no_agent(world) -> None:
    verdict = verify(der(world.authority.certificate), world.trust, world.now_ms)
    assert "authority is not" in verdict.reason


def test_an_agent_cannot_sign_for_others(world) -> None:
    key = keys.make_key()
    leaf = world.leaf(world.name("node"), key)
    forger = x509.Authority(leaf, key)
    forged = x509.make_leaf(
        forger,
        world.name("hub"),
        keys.make_key().public_key(),
        serial=8,
        now_ms=world.now_ms,
        life_s=600,
        capabilities=frozenset(),
    )
    assert "not signed" in verify(der(forged), world.trust, world.now_ms).reason
    # Not even if somebody's trust store holds the agent's certificate by mistake.
    mistaken = Trust(world.cluster, (leaf,))
    assert "no authority" in verify(der(forged), mistaken, world.now_ms).reason


def test_both_ends_of_a_life_allow_for_the_skew_and_no_more(world) -> None:
    leaf = world.leaf(world.name("hub"), keys.make_key(), life_s=3_600)
    facts = x509.facts(leaf)
    early, late = facts.begin_ms - SKEW_MS, facts.end_ms + SKEW_MS
    assert verify(der(leaf), world.trust, early).accepted
    assert verify(der(leaf), world.trust, late).accepted
    assert "not valid yet" in verify(der(leaf), world.trust, early - 1).reason
    assert verify(der(leaf), world.trust, late + 1).reason == "the certificate has expired"


def test_an_expired_authority_vouches_for_nobody(make_world) -> None:
    old = make_world(life_s=86_400, ago_s=3 * 86_400)
    leaf = old.leaf(old.name("hub"), keys.make_key())
    assert verify(der(leaf), old.trust, old.now_ms).reason == "the authority has expired"


def test_the_wrong_role_and_the_needed_one_are_named(world) -> None:
    leaf = der(world.leaf(world.name("containers"), keys.make_key()))
    verdict = verify(leaf, world.trust, world.now_ms, {"hub", "node"})
    assert verdict.reason == "has the role containers, not hub or node"
    assert not verify(leaf, world.trust, world.now_ms, frozenset()).accepted
    assert verify(leaf, world.trust, world.now_ms, None).accepted


def test_another_cluster_is_refused_even_with_the_right_authority(world) -> None:
    leaf = der(world.leaf(world.name("hub"), keys.make_key()))
    verdict = verify(leaf, Trust("c2", world.trust.authorities), world.now_ms)
    assert verdict.reason == "of the cluster c1, not of c2"


def test_two_authorities_are_both_believed_while_one_replaces_the_other(world, make_world) -> None:
    successor = make_world(world.cluster)
    both = Trust(world.cluster, world.trust.authorities + successor.trust.authorities)
    for signer in (world, successor):
        leaf = der(signer.leaf(world.name("hub"), keys.make_key()))
        assert verify(leaf, both, world.now_ms).accepted


def test_a_changed_certificate_is_refused_or_says_the_same(world) -> None:
    """The encoding of a signature has a few free bits; what was signed has none."""
    leaf = world.leaf(world.name("hub"), keys.make_key())
    good = der(leaf)
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= 1 << place % 8
        if verify(bytes(changed), world.trust, world.now_ms).accepted:
            again = x509.read_certificate(bytes(changed))
            assert again.tbs_certificate_bytes == leaf.tbs_certificate_bytes, place


def test_a_torn_certificate_is_refused(world) -> None:
    good = der(world.leaf(world.name("hub"), keys.make_key()))
    for end in range(0, len(good), 7):
        assert not verify(good[:end], world.trust, world.now_ms).accepted


@pytest.mark.parametrize("data", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n", b"0" * 20_000])
def test_garbage_is_refused_with_a_reason(world, data: bytes) -> None:
    verdict = verify(data, world.trust, world.now_ms)
    assert not verdict.accepted
    assert "certificate" in verdict.reason


def test_trust_needs_readable_authorities(world) -> None:
    assert trust("c1", [world.authority_pem]) == world.trust
    with pytest.raises(PlatformError, match="authority"):
        trust("c1", [b"garbage"])
    with pytest.raises(PlatformError, match="1 to 8"):
        trust("c1", [])
