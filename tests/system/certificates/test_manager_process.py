"""The certificate manager as a process: users, kills, torn files, races, and TLS with its work."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes

from paas.base.errors import PlatformError
from paas.certificates import client
from paas.certificates.state import Store
from paas.identity import csr, keys, tls, x509
from paas.identity.names import AgentName
from paas.identity.tls import Identity
from paas.identity.verify import trust, verify
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles

pytestmark = pytest.mark.system

CLOCK = SystemClock()
HUB = AgentName("c1", "n1", "hub", "a1")
NODE = AgentName("c1", "n1", "node", "a1")
NOBODY = 65_534


async def identity(manager, name: AgentName) -> Identity:
    token = (await client.mint_token(manager.socket_path, name)).token
    return await client.obtain(manager.socket_path, token, name, clock=CLOCK)


async def test_two_agents_get_identities_and_talk_over_tls(manager) -> None:
    manager.start()
    hub, node = await identity(manager, HUB), await identity(manager, NODE)
    trusted = trust("c1", [hub.authority_pem])
    seen: list[AgentName] = []

    async def serve(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, tls.server_context(hub), server_side=True)
        await secure.do_handshake()
        seen.append(tls.authenticate(secure, trusted, CLOCK.now_ms(), {"node"})[0])
        await secure.send_all(await secure.receive_some(100))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            port = listeners[0].socket.getsockname()[1]
            stream = trio.SSLStream(
                await trio.open_tcp_stream("127.0.0.1", port), tls.client_context(node)
            )
            await stream.do_handshake()
            seen.append(tls.authenticate(stream, trusted, CLOCK.now_ms(), {"hub"})[0])
            await stream.send_all(b"ping")
            assert await stream.receive_some(100) == b"ping"
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
    assert sorted(seen) == sorted([HUB, NODE])


async def test_a_certificate_is_renewed_over_the_socket(manager) -> None:
    manager.start()
    old = await identity(manager, HUB)
    new = await client.renew(manager.socket_path, old, HUB, clock=CLOCK)
    assert new.key_pem != old.key_pem
    trusted = trust("c1", [manager.authority.encode()])
    assert verify(new.certificate_pem, trusted, CLOCK.now_ms(), {"hub"}).name == HUB


class MovedClock:
    """The machine's clock, set forward."""

    def __init__(self, forward_s: int) -> None:
        self.forward_s = forward_s

    def now_ms(self) -> int:
        return CLOCK.now_ms() + self.forward_s * 1_000

    def monotonic_s(self) -> float:
        return CLOCK.monotonic_s()


async def test_an_agent_keeps_its_certificate_renewed(manager) -> None:
    manager.start(leaf_life_s=600)
    old = await identity(manager, HUB)
    clock = MovedClock(500)
    renewed: list[Identity] = []
    failed: list[PlatformError] = []
    done = trio.Event()

    def on_renewed(new: Identity) -> None:
        renewed.append(new)
        clock.forward_s = 0
        done.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    client.keep_renewed,
                    manager.socket_path,
                    old,
                    HUB,
                    clock=clock,
                    entropy=SystemEntropy(),
                    on_renewed=on_renewed,
                    on_failure=failed.append,
                )
            )
            await done.wait()
            nursery.cancel_scope.cancel()
    assert failed == []
    assert len(renewed) == 1
    tls.client_context(renewed[0])


async def test_a_renewal_that_fails_is_reported_and_does_not_end_the_agent(manager) -> None:
    manager.start(leaf_life_s=600)
    old = await identity(manager, HUB)
    manager.kill()
    failures: list[PlatformError] = []
    done = trio.Event()

    def on_failure(error: PlatformError) -> None:
        failures.append(error)
        done.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    client.keep_renewed,
                    manager.socket_path,
                    old,
                    HUB,
                    clock=MovedClock(500),
                    entropy=SystemEntropy(),
                    on_renewed=lambda new: None,
                    on_failure=on_failure,
                )
            )
            await done.wait()
            nursery.cancel_scope.cancel()
    assert [error.code for error in failures] == ["unavailable"]


async def test_of_fifty_processes_worth_of_requests_with_one_token_one_wins(manager) -> None:
    manager.start()
    token = (await client.mint_token(manager.socket_path, HUB)).token
    won: list[Identity] = []
    lost: list[PlatformError] = []

    async def race() -> None:
        try:
            won.append(await client.obtain(manager.socket_path, token, HUB, clock=CLOCK))
        except PlatformError as exc:
            lost.append(exc)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(race)
    assert len(won) == 1
    assert {exc.code for exc in lost} == {"denied"}
    assert manager.log.count('"certificate-issued"') == 1
    assert (await client.authority(manager.socket_path)).certificates == 1


def as_user(uid: int, path: str, request: dict) -> dict:
    """One JSON line sent by a process of another user, and the answer."""
    script = (
        "import os, socket, sys\n"
        "user = int(sys.argv[3])\n"
        "os.setgroups([])\n"
        "os.setresgid(user, user, user)\n"
        "os.setresuid(user, user, user)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "s.sendall(sys.argv[2].encode() + b'\\n')\n"
        "print(s.makefile().readline())\n"
    )
    line = json.dumps({"jsonrpc": "2.0", "id": 1, **request})
    done = subprocess.run(
        [sys.executable, "-c", script, path, line, str(uid)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


async def test_another_user_gets_no_token(manager) -> None:
    manager.start()
    params = {"subsystem": "hub", "id": "a1", "node": "n1"}
    request = {"method": "certificates.mint_token", "params": params}
    answer = as_user(NOBODY, manager.socket_path, request)
    assert answer["error"]["data"]["code"] == "denied"
    assert answer["error"]["data"]["missing"] == "spawner"
    assert '"denied"' in manager.log


async def test_another_process_of_the_right_user_gets_no_token(manager) -> None:
    manager.start()
    params = {"subsystem": "hub", "id": "a1", "node": "n1"}
    request = {"method": "certificates.mint_token", "params": params}
    assert as_user(0, manager.socket_path, request)["error"]["data"]["code"] == "denied"


async def test_a_stolen_token_is_useless_to_another_user_and_the_reason_is_not_told(
    manager,
) -> None:
    manager.start()
    token = (await client.mint_token(manager.socket_path, HUB, uid=0)).token
    params = {"token": token, "request": ""}
    request = {"method": "certificates.redeem", "params": params}
    answer = as_user(NOBODY, manager.socket_path, request)
    assert answer["error"]["data"]["code"] == "denied"
    assert "user" not in json.dumps(answer["error"]["message"])
    assert "shows a token for user 0" in manager.log
    await client.obtain(manager.socket_path, token, HUB, clock=CLOCK)


async def test_after_a_kill_the_same_authority_answers_and_old_tokens_are_dead(manager) -> None:
    manager.start()
    before = manager.authority
    old = await identity(manager, HUB)
    token = (await client.mint_token(manager.socket_path, HUB)).token
    manager.kill()
    manager.start()
    assert manager.authority == before
    with pytest.raises(PlatformError) as caught:
        await client.obtain(manager.socket_path, token, HUB, clock=CLOCK)
    assert caught.value.code == "denied"
    await client.renew(manager.socket_path, old, HUB, clock=CLOCK)
    assert (await client.authority(manager.socket_path)).certificates == 2


async def test_kills_while_certificates_are_issued_never_damage_the_state(manager) -> None:
    got: list[Identity] = []
    for pause_s in (0.0, 0.01, 0.03, 0.07, 0.15):
        manager.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(issue_until_cut_off, manager, got)
            await trio.sleep(pause_s)
            manager.kill()
            nursery.cancel_scope.cancel()
    manager.start()
    assert (await client.authority(manager.socket_path)).certificates >= len(got)
    trusted = trust("c1", [manager.authority.encode()])
    for one in got:
        assert verify(one.certificate_pem, trusted, CLOCK.now_ms()).accepted


async def issue_until_cut_off(manager, got: list[Identity]) -> None:
    try:
        while True:
            got.append(await identity(manager, HUB))
    except PlatformError:
        return


@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.25, 0.3, 0.35])
async def test_a_first_start_that_is_killed_can_begin_again(manager, seconds: float) -> None:
    process = manager.launch()
    await trio.sleep(seconds)
    process.kill()
    process.wait()
    manager.start()
    assert (await client.authority(manager.socket_path)).authority == manager.authority


@pytest.mark.parametrize("name", ["authority.pem", "issued"])
async def test_a_torn_file_is_refused_with_a_clear_error_and_left_alone(manager, name) -> None:
    manager.start()
    await identity(manager, HUB)
    manager.kill()
    path = manager.directory / name
    os.truncate(path, path.stat().st_size // 2)
    torn = path.read_bytes()
    status, log = manager.start_refused()
    assert status == 1
    assert f"the authority's file {name} is damaged" in log
    assert "restore" in log
    assert path.read_bytes() == torn


async def test_there_is_never_a_second_authority_beside_the_first(manager) -> None:
    manager.start()
    status, log = manager.start_refused(socket_path=f"{manager.socket_path}2")
    assert status == 5
    assert "another process is the authority" in log
    await identity(manager, HUB)


def open_directory(directory: Path) -> None:
    directory.chmod(0o750)


def foreign_directory(directory: Path) -> None:
    os.chown(directory, 0, 0)
    directory.chmod(0o700)


def open_key(directory: Path) -> None:
    (directory / "authority.pem").chmod(0o640)


def linked_key(directory: Path) -> None:
    (directory / "authority.pem").rename(directory.parent / "moved.pem")
    (directory / "authority.pem").symlink_to(directory.parent / "moved.pem")


def foreign_key(directory: Path) -> None:
    os.chown(directory / "authority.pem", NOBODY, NOBODY)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (open_directory, "open to others (mode 0750)"),
        (open_key, "open to others (mode 0640)"),
        (linked_key, "is a symbolic link"),
        (foreign_key, "belongs to user 65534"),
    ],
)
async def test_a_key_that_others_could_reach_is_refused(manager, change, said: str) -> None:
    manager.start()
    manager.kill()
    change(manager.directory)
    status, log = manager.start_refused()
    assert status == 4
    assert said in log


async def test_a_directory_of_another_user_is_refused(manager) -> None:
    foreign_directory(manager.directory)
    status, log = manager.start_refused()
    assert status == 4
    assert "belongs to user 0" in log


def kernel_says(manager, what: str) -> str:
    """A file of the manager's process in /proc."""
    return Path(f"/proc/{manager.process.pid}/{what}").read_text()


async def test_the_key_is_closed_to_all_others_and_no_core_is_dumped(manager) -> None:
    manager.start()
    await identity(manager, HUB)
    for path in (manager.directory, *manager.directory.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    limits = kernel_says(manager, "limits")
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


async def test_neither_key_nor_token_is_in_arguments_environment_or_log(manager) -> None:
    manager.start()
    token = (await client.mint_token(manager.socket_path, HUB)).token
    await client.obtain(manager.socket_path, token, HUB, clock=CLOCK)
    key = (manager.directory / "authority.pem").read_text().splitlines()[1]
    seen = kernel_says(manager, "cmdline") + kernel_says(manager, "environ") + manager.log
    for secret in (key, token, token.rsplit("-", 1)[1]):
        assert secret not in seen


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(manager, tmp_path) -> None:
    manager.start()
    token = (await client.mint_token(manager.socket_path, HUB)).token
    proxy_path = str(tmp_path / "proxy")
    lost = 0

    async def proxy(caller: trio.SocketStream) -> None:
        """Passes one request on; the first two answers are thrown away."""
        nonlocal lost
        async with await trio.open_unix_socket(manager.socket_path) as target, caller:
            await target.send_all(await caller.receive_some(65_536))
            answer = await target.receive_some(65_536)
            if lost < 2:
                lost += 1
                return
            await caller.send_all(answer)
            await caller.receive_some(1)

    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(proxy_path)
    listener.listen()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, proxy, [trio.SocketListener(listener)])
            got = await client.obtain(proxy_path, token, HUB, clock=CLOCK)
            nursery.cancel_scope.cancel()
    assert lost == 2
    tls.client_context(got)
    assert (await client.authority(manager.socket_path)).certificates == 1
    assert manager.log.count('"certificate-repeated"') == 2


async def test_an_unexpected_authority_is_not_believed(manager) -> None:
    manager.start()
    token = (await client.mint_token(manager.socket_path, HUB)).token
    mine = await identity(manager, NODE)
    with pytest.raises(PlatformError) as caught:
        await client.obtain(
            manager.socket_path, token, HUB, clock=CLOCK, authority_pem=mine.certificate_pem
        )
    assert caught.value.code == "untrusted"


async def test_garbage_on_the_socket_disturbs_nobody(manager) -> None:
    manager.start()
    for garbage in (b"\xff" * 100, b"{" * 5_000 + b"\n", b"\x7f\xff\xff\xff", b"[1,2\n", b""):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(manager.socket_path)
            sock.sendall(garbage)
    bad = {"method": "certificates.redeem", "params": {"token": 5}}
    answer = as_user(NOBODY, manager.socket_path, bad)
    assert answer["error"]["data"]["field"] == "token"
    await identity(manager, HUB)
    assert '"bug"' not in manager.log


async def test_nobody_at_the_socket_is_said_so(tmp_path) -> None:
    with pytest.raises(PlatformError) as caught:
        await client.authority(str(tmp_path / "nothing"))
    assert caught.value.code == "unavailable"


# -- authorities of nodes ------------------------------------------------------------------------


def old_directory(directory: Path) -> str:
    """A state directory as it was before there were authorities of nodes; its key's fingerprint."""
    key = keys.make_key()
    life_s = 86_400 * 3_000
    new = x509.make_authority("c1", key, serial=5, now_ms=CLOCK.now_ms(), life_s=life_s)
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
    authority = x509.Authority(builder.sign(key, hashes.SHA256()), key)
    store = Store(SystemFiles(str(directory)))
    store.save_authority(authority)
    store.save_issued([])
    for path in directory.iterdir():
        os.chown(path, 54_321, 54_321)
    return keys.fingerprint(key.public_key())


async def test_an_old_directory_is_brought_up_to_date_at_the_start(manager) -> None:
    fingerprint = old_directory(manager.directory)
    manager.start()
    about = await client.authority(manager.socket_path)
    assert (about.fingerprint, about.holder) == (fingerprint, True)
    hub, node = await identity(manager, HUB), await identity(manager, NODE)
    assert await who_calls(hub, node) == NODE
    before = manager.authority
    manager.kill()
    manager.start()
    assert manager.authority == before


async def who_calls(server: Identity, caller: Identity) -> AgentName:
    near, far = socket.socketpair()
    found: list[AgentName] = []

    async def accept() -> None:
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        stream = trio.SSLStream(plain, tls.server_context(server), server_side=True)
        await stream.do_handshake()
        trusted = trust("c1", [server.authority_pem])
        found.append(tls.authenticate(stream, trusted, CLOCK.now_ms(), {"node"})[0])
        await trio.aclose_forcefully(stream)

    async def dial() -> None:
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(far))
        stream = trio.SSLStream(plain, tls.client_context(caller))
        await stream.do_handshake()
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some(1)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            nursery.start_soon(dial)
    return found[0]


async def test_only_the_hub_s_user_has_nodes_certified(manager) -> None:
    manager.start(hub_uid=NOBODY)
    request = csr.make_node("c1", "n2", keys.make_key()).decode()
    params = {"request": request, "node": "n2"}
    asked = {"method": "certificates.certify_node", "params": params}
    answer = as_user(NOBODY, manager.socket_path, asked)
    assert answer["result"]["chain"].count("BEGIN CERTIFICATE") == 2
    refused = as_user(NOBODY - 1, manager.socket_path, asked)
    assert refused["error"]["data"]["code"] == "denied"


async def test_the_hub_renews_its_node_s_authority_only_when_it_is_time(manager) -> None:
    manager.start()
    carried: list[str] = []

    async def certify(request: str) -> str:
        carried.append(request)
        return await client.certify_node(manager.socket_path, request, "n1")

    assert not await client.renew_node_authority(manager.socket_path, certify)
    assert carried == []
