"""Signatures, as another program checks them (delv, of BIND)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dnslib
import pytest
import trio

from paas.dns import records
from paas.dns.dnssec import Signer, ds_text, key_data, key_tag
from paas.dns.responder import Face, Responder
from paas.dns.server import Server, bind_both
from paas.dns.transfer import bitmap
from paas.dns.zone import Set
from paas.identity.keys import make_key
from paas.real.clock import SystemClock
from tests.unit.dns.world import ORIGIN, WALL_S, question, small_cluster, zone

NOW_S = SystemClock().now_ms() / 1_000


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(ORIGIN, make_key(), lambda: NOW_S)


def face_of(signer: Signer) -> Face:
    cluster = small_cluster()
    cluster.signers = (signer.data,)
    return Face(zone(cluster))


async def validated(signer: Signer, folder: Path, *names: tuple[str, str]) -> list[str]:
    """What delv says about each name, with our key as its only trust anchor."""
    face = face_of(signer)
    responder = Responder(now_s=lambda: NOW_S, signing=signer.signing)
    server = Server(
        responder=responder,
        face_of=lambda _: face,
        now_s=trio.current_time,
        wall_s=lambda: NOW_S,
    )
    ds = ds_text(ORIGIN, signer.data).split()
    anchors = folder / "anchors"
    trusted = f'{ds[0]} static-ds {ds[3]} {ds[4]} {ds[5]} "{ds[6]}";'
    anchors.write_text(f"trust-anchors {{ {trusted} }};\n")
    udp, tcp = await bind_both("127.0.0.1", 0)
    found = []
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve_udp, udp)
        await nursery.start(server.serve_tcp, tcp)
        with udp:
            words = ["delv", "@127.0.0.1", "-p", str(udp.getsockname()[1]), "-a", str(anchors)]
            words.append("+root=paas.internal")
            for name, kind in names:
                done = await trio.run_process(
                    [*words, name, kind],
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
                found.append(done.stdout.decode())
            nursery.cancel_scope.cancel()
    return found


async def test_another_program_finds_answers_and_denials_validly_signed(
    signer: Signer, tmp_path: Path
) -> None:
    good = [
        ("web.group.paas.internal", "A"),
        ("_http._tcp.web.group.paas.internal", "SRV"),
        ("www.shop.app.paas.internal", "A"),
        ("paas.internal", "SOA"),
    ]
    for said in await validated(signer, tmp_path, *good):
        assert "; fully validated" in said, said
    missing = [("nobody.component.paas.internal", "A"), ("web.component.paas.internal", "AAAA")]
    for said in await validated(signer, tmp_path, *missing):
        assert "negative response, fully validated" in said, said


async def test_what_another_key_signed_is_not_believed(signer: Signer, tmp_path: Path) -> None:
    forged = Signer(ORIGIN, make_key(), lambda: NOW_S)
    forged.data = signer.data  # the zone shows the true key
    (said,) = await validated(forged, tmp_path, ("web.group.paas.internal", "A"))
    assert "fully validated" not in said


def test_only_who_asks_for_signatures_gets_them(signer: Signer) -> None:
    responder = Responder(now_s=lambda: NOW_S, signing=signer.signing)
    for secure in (False, True):
        data = question("web.group.paas.internal", secure=secure)
        reply = responder.respond(data, "192.0.2.1", face_of(signer))
        assert isinstance(reply, bytes)
        kinds = {rr.rtype for rr in dnslib.DNSRecord.parse(reply).rr}
        assert (records.RRSIG in kinds) == secure


def test_a_signature_is_made_once_until_half_of_its_life() -> None:
    now = [WALL_S]
    ours = Signer(ORIGIN, make_key(), lambda: now[0])
    found = Set(5, (b"1234", b"4321"))
    first = ours.sign(ORIGIN, records.A, found)
    assert ours.sign(ORIGIN, records.A, Set(5, (b"4321",), (b"1234",))) == first
    now[0] += 3 * 86_400
    assert ours.sign(ORIGIN, records.A, found) == first
    now[0] += 86_400
    assert ours.sign(ORIGIN, records.A, found) != first


def test_tags_and_bitmaps_are_those_of_the_documents() -> None:
    """RFC 4034, appendix B and §4.3: A, MX, RRSIG, NSEC and TYPE1234."""
    kinds = {1, 15, 46, 47, 1234}
    expected = bytes.fromhex("0006400100000003 041b" + "00" * 26 + "20")
    assert bitmap(kinds) == expected
    data = key_data(make_key())
    assert len(data) == 68
    whole = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    assert key_tag(data) == (whole + (whole >> 16)) & 0xFFFF
