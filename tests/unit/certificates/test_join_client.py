"""What a machine does on its way into a cluster, cut off at any point, with any answer."""

from __future__ import annotations

import errno

import pytest

from paas.base.errors import PlatformError
from paas.certificates import messages, node_chain
from paas.certificates.authority import open_authority
from paas.certificates.join_client import Joiner
from paas.certificates.state import ISSUED_FILE, NODE_AUTHORITY_FILE, NODE_KEY_FILE, Store
from paas.identity import csr, keys
from paas.identity.names import AgentName
from paas.identity.verify import verify


def joiner(cluster, rig, token: str, *, node: str = "n2", ahead_s: int = 0) -> Joiner:
    rig.clock.ms = cluster.clock.ms + ahead_s * 1_000
    return Joiner(
        token, node=node, listen_address="192.0.2.2:7000", files=rig.disk, clock=rig.clock
    )


async def join(cluster, rig, token: str, **more):
    one = joiner(cluster, rig, token, **more)
    one.check_server(cluster.shown())
    return one.accept(await cluster.service.join(one.request()))


def open_n2(rig):
    return open_authority("c1", "n2", Store(rig.disk), rig.clock, rig.entropy, may_begin=False)


async def test_a_machine_becomes_a_node_that_certifies_its_own_agents(cluster, rig) -> None:
    joined = await join(cluster, rig, cluster.token())
    assert (joined.cluster, joined.node, joined.peers) == ("c1", "n2", {"n1": "192.0.2.1:7000"})
    assert rig.disk.list() == sorted([ISSUED_FILE, NODE_AUTHORITY_FILE, NODE_KEY_FILE])
    authority, made = open_n2(rig)
    assert (made, authority.holder) == (False, False)
    name = AgentName("c1", "n2", "hub", "h2")
    asked = csr.read(csr.make(name, keys.make_key()))
    pem = authority.issue(name, asked, life_s=3_600).encode()
    assert verify(pem, cluster.authority.trust, cluster.clock.now_ms(), {"hub"}).name == name


async def test_the_key_stays_on_the_machine(cluster, rig) -> None:
    one = joiner(cluster, rig, cluster.token())
    one.check_server(cluster.shown())
    assert "PRIVATE" not in repr(one.request())


@pytest.mark.parametrize("power", [False, True])
async def test_cut_off_anywhere_the_same_token_still_makes_it_a_node(
    cluster, make_rig, power: bool
) -> None:
    whole = make_rig()
    await join(cluster, whole, cluster.token(), node="n9")
    for steps in range(whole.disk.operations):
        cut, token = make_rig(), cluster.token()
        cut.disk.cut_after = steps
        with pytest.raises(cut.cut_off):
            await join(cluster, cut, token, node=f"x{steps}")
        cut.disk.cut_after = None
        if power:
            cut.disk.power_cut()
        await join(cluster, cut, token, node=f"x{steps}")
        open_authority("c1", f"x{steps}", Store(cut.disk), cut.clock, cut.entropy, may_begin=False)


async def test_a_joining_that_was_not_finished_makes_no_cluster_of_its_own(cluster, rig) -> None:
    joiner(cluster, rig, cluster.token())
    with pytest.raises(PlatformError) as caught:
        open_authority("c1", "n2", Store(rig.disk), rig.clock, rig.entropy)
    assert caught.value.code == "conflict"
    assert "did not finish" in caught.value.message


async def test_a_full_disk_is_said_and_the_joining_can_be_repeated(cluster, rig) -> None:
    token = cluster.token()
    rig.disk.fails = errno.ENOSPC
    with pytest.raises(PlatformError) as caught:
        joiner(cluster, rig, token)
    assert caught.value.code == "storage-full"
    rig.disk.fails = None
    one = joiner(cluster, rig, token)
    one.check_server(cluster.shown())
    answer = await cluster.service.join(one.request())
    rig.disk.fails = errno.ENOSPC
    with pytest.raises(PlatformError) as caught:
        one.accept(answer)
    assert caught.value.code == "storage-full"
    rig.disk.fails = None
    await join(cluster, rig, token)


@pytest.mark.parametrize("token", ["", "paas1-", "pst1-" + "0" * 16 + "-" + "0" * 64])
def test_a_garbled_token_is_refused_before_anything_is_written(cluster, rig, token) -> None:
    with pytest.raises(PlatformError) as caught:
        joiner(cluster, rig, token)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", "token")
    assert rig.disk.list() == []


async def test_another_cluster_is_refused_before_anything_is_sent(cluster, rig) -> None:
    stranger = type(cluster)()
    one = joiner(cluster, rig, cluster.token())
    with pytest.raises(PlatformError) as caught:
        one.check_server(stranger.shown())
    assert caught.value.code == "untrusted"
    assert "nothing was sent" in caught.value.message


def bad_chains(cluster) -> dict[str, tuple[bytes, ...]]:
    good, stranger = cluster.shown(), type(cluster)().shown()
    return {
        "nothing": (),
        "no authority": good[:2],
        "the authority alone": good[2:],
        "garbage": (b"x", b"y"),
        "the right authority behind a stranger": (*stranger[:2], good[2]),
        "an agent that is no hub": cluster.shown("containers"),
    }


BAD_CHAINS = [
    "nothing",
    "no authority",
    "the authority alone",
    "garbage",
    "the right authority behind a stranger",
    "an agent that is no hub",
]


@pytest.mark.parametrize("case", BAD_CHAINS)
async def test_who_does_not_show_the_whole_chain_is_refused(cluster, rig, case: str) -> None:
    one = joiner(cluster, rig, cluster.token())
    with pytest.raises(PlatformError) as caught:
        one.check_server(bad_chains(cluster)[case])
    assert caught.value.code == "untrusted"


async def test_a_clock_so_slow_that_nothing_has_begun_is_named(cluster, rig) -> None:
    one = joiner(cluster, rig, cluster.token(), ahead_s=-600)
    with pytest.raises(PlatformError) as caught:
        one.check_server(cluster.shown())
    assert caught.value.code == "refused"
    assert "this node's clock is at least 300 s behind the cluster's" in caught.value.message


async def test_a_clock_so_fast_that_all_has_ended_is_named(cluster, rig) -> None:
    one = joiner(cluster, rig, cluster.token(), ahead_s=2 * 86_400)
    with pytest.raises(PlatformError) as caught:
        one.check_server(cluster.shown())
    assert "is at least 86400 s ahead of the cluster's" in caught.value.message


@pytest.mark.parametrize("ahead_s", [60, -60])
async def test_a_minute_s_difference_is_fine(cluster, rig, ahead_s: int) -> None:
    await join(cluster, rig, cluster.token(), ahead_s=ahead_s)
    open_n2(rig)


@pytest.mark.parametrize("case", ["key", "node", "authority", "garbage", "cluster", "peers"])
async def test_an_answer_that_is_not_for_us_is_not_written_down(cluster, rig, case: str) -> None:
    one = joiner(cluster, rig, cluster.token())
    one.check_server(cluster.shown())
    answer = await cluster.service.join(one.request())
    stranger = type(cluster)()
    own = csr.make_node("c1", "n3", keys.read_key(bytes(rig.disk.names[NODE_KEY_FILE])))
    other = csr.make_node("c1", "n2", keys.make_key())
    chains = {
        "key": cluster.authority.certify_node(csr.read_node(other)),
        "node": cluster.authority.certify_node(csr.read_node(own)),
        "authority": stranger.authority.certify_node(csr.read_node(other)),
        "garbage": "garbage",
    }
    wrong = messages.Joined(
        cluster="c2" if case == "cluster" else "c1",
        chain=chains.get(case, answer.chain),
        peers={"n1": "nowhere"} if case == "peers" else {},
        time_ms=0,
    )
    with pytest.raises(PlatformError) as caught:
        one.accept(wrong)
    assert caught.value.code == ("invalid" if case == "peers" else "untrusted")
    assert NODE_AUTHORITY_FILE not in rig.disk.names
    one.accept(answer)


async def test_a_directory_that_is_in_use_is_left_alone(cluster, rig, make_rig) -> None:
    token = cluster.token()
    with pytest.raises(PlatformError, match="began a cluster"):
        joiner(cluster, cluster.rig, token)
    await join(cluster, rig, token)
    with pytest.raises(PlatformError, match="the node n2 of this cluster"):
        joiner(cluster, rig, token, node="n3")
    stranger = type(cluster)()
    with pytest.raises(PlatformError, match="of another cluster"):
        joiner(stranger, rig, stranger.token())
    await join(cluster, rig, token)  # the same once more: the answer may have been lost


async def test_a_node_on_another_s_disk_does_not_start(cluster, rig) -> None:
    await join(cluster, rig, cluster.token())
    with pytest.raises(PlatformError) as caught:
        open_authority("c1", "n3", Store(rig.disk), rig.clock, rig.entropy, may_begin=False)
    assert caught.value.code == "conflict"
    assert "of the node 'n2', not of 'n3'" in caught.value.message


def test_a_node_that_joined_and_lost_everything_begins_no_cluster(rig) -> None:
    with pytest.raises(PlatformError) as caught:
        open_n2(rig)
    assert caught.value.code == "corrupt"
    assert rig.disk.list() == []


@pytest.mark.parametrize("missing", [ISSUED_FILE, NODE_AUTHORITY_FILE, NODE_KEY_FILE])
async def test_a_node_that_lost_one_file_says_which(cluster, rig, missing: str) -> None:
    await join(cluster, rig, cluster.token())
    del rig.disk.names[missing]
    with pytest.raises(PlatformError) as caught:
        open_n2(rig)
    expected = "did not finish" if missing == NODE_AUTHORITY_FILE else missing
    assert expected in caught.value.message


async def test_a_node_that_was_away_too_long_joins_again_with_a_new_token(cluster, rig) -> None:
    await join(cluster, rig, cluster.token())
    cluster.clock.forward(400 * 86_400)
    rig.clock.ms = cluster.clock.ms
    with pytest.raises(PlatformError) as caught:
        open_n2(rig)
    assert caught.value.code == "untrusted"
    assert "new token" in caught.value.hint
    await join(cluster, rig, cluster.token())
    open_n2(rig)


async def test_the_authority_of_a_node_is_renewed_through_the_holder(cluster, rig) -> None:
    await join(cluster, rig, cluster.token())
    authority, _ = open_n2(rig)
    assert not authority.renewal_due
    cluster.clock.forward(190 * 86_400)
    rig.clock.ms = cluster.clock.ms
    assert authority.renewal_due
    old = authority.node_facts.end_ms
    chain = cluster.authority.certify_node(csr.read_node(authority.node_request().encode()))
    authority.install(chain)
    assert authority.node_facts.end_ms > old
    assert not authority.renewal_due
    assert open_n2(rig)[0].node_pem == authority.node_pem


async def test_a_successor_that_is_not_ours_or_older_is_refused(cluster, rig) -> None:
    await join(cluster, rig, cluster.token())
    authority, _ = open_n2(rig)
    older = authority.node_pem + authority.pem
    request = csr.read_node(authority.node_request().encode())
    stranger = type(cluster)()
    rig.clock.forward(10)
    cluster.clock.forward(10)
    with pytest.raises(PlatformError, match="another one"):
        authority.install(stranger.authority.certify_node(request))
    other = csr.read_node(csr.make_node("c1", "n2", keys.make_key()))
    with pytest.raises(PlatformError, match="for another key"):
        authority.install(cluster.authority.certify_node(other))
    authority.install(cluster.authority.certify_node(request))
    with pytest.raises(PlatformError, match="ends before"):
        authority.install(older)
    with pytest.raises(PlatformError, match="not on this node"):
        authority.certify_node(other)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_chain_is_of_two(cluster, count: int) -> None:
    pem = (cluster.authority.pem * count).encode()
    with pytest.raises(PlatformError) as caught:
        node_chain.read(pem)
    assert caught.value.code == "untrusted"
