"""A disk that can be cut off at any operation, clocks that stand still, and a whole manager."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass, field

import pytest

from paas.base.errors import PlatformError
from paas.certificates.authority import Authority, open_authority
from paas.certificates.join_state import CreateJoinToken, JoinTokenState, new_token
from paas.certificates.joining import JoinService
from paas.certificates.manager import CertificateService
from paas.certificates.settings import Settings
from paas.certificates.state import Store
from paas.identity import csr, join_tokens, keys, x509
from paas.identity.names import AgentName
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine
from paas.rpc.link import PeerCredentials


class CutOffError(BaseException):
    """The process ends here, as by SIGKILL."""


class Disk:
    """The `Files` port in memory; knows what a power cut would leave."""

    def __init__(self) -> None:
        self.names: dict[str, bytearray] = {}
        self.durable_names: dict[str, bytearray] = {}
        self.durable_content: dict[int, bytes] = {}
        self.created: list[bytearray] = []  # kept, so that no id is used twice
        self.cut_after: int | None = None
        self.fails: int | None = None
        self.operations = 0

    def step(self) -> None:
        self.operations += 1
        if self.fails is not None:
            raise OSError(self.fails, "the disk says no")
        if self.cut_after is not None:
            if self.cut_after == 0:
                raise CutOffError
            self.cut_after -= 1

    def power_cut(self) -> None:
        """What was not synced is gone; a file whose content was not synced is empty."""
        self.names = {
            name: bytearray(self.durable_content.get(id(content), b""))
            for name, content in self.durable_names.items()
        }
        self.created += self.names.values()
        self.durable_names = dict(self.names)
        self.durable_content = {id(c): bytes(c) for c in self.names.values()}

    def open(self, path: str, *, create: bool = False) -> OpenFile:
        self.step()
        if path not in self.names:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file")
            self.names[path] = bytearray()
            self.created.append(self.names[path])
        return OpenFile(self, self.names[path])

    def exists(self, path: str) -> bool:
        return path in self.names

    def list(self, path: str = "") -> list[str]:
        return sorted(self.names)

    def make_dir(self, path: str) -> None:
        raise AssertionError("not used")

    def rename(self, source: str, target: str) -> None:
        self.step()
        self.names[target] = self.names.pop(source)

    def remove(self, path: str) -> None:
        self.step()
        del self.names[path]

    def sync_dir(self, path: str = "") -> None:
        self.step()
        self.durable_names = dict(self.names)

    def free_bytes(self) -> int:
        return 1 << 30


@dataclass
class OpenFile:
    disk: Disk
    content: bytearray

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self.content[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        half = len(data) // 2
        self.content[offset : offset + half] = data[:half]
        self.disk.step()
        self.content[offset + half : offset + len(data)] = data[half:]

    def truncate(self, size: int) -> None:
        del self.content[size:]

    def size(self) -> int:
        return len(self.content)

    def sync(self) -> None:
        self.disk.step()
        self.disk.durable_content[id(self.content)] = bytes(self.content)

    def close(self) -> None:
        return


@dataclass
class FixedClock:
    ms: int = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1_000

    def forward(self, seconds: float) -> None:
        self.ms += int(seconds * 1_000)


@dataclass
class CountingEntropy:
    """Different bytes each time, the same in every run."""

    drawn: int = 0

    def bytes(self, count: int) -> bytes:
        self.drawn += 1
        return hashlib.shake_128(self.drawn.to_bytes(8, "big")).digest(count)

    def fraction(self) -> float:
        return 0.5


CONTROLLER = PeerCredentials(pid=100, uid=0, gid=0)
AGENT = PeerCredentials(pid=200, uid=1_000, gid=1_000)


@dataclass
class Rig:
    """A manager on an in-memory disk."""

    disk: Disk = field(default_factory=Disk)
    clock: FixedClock = field(default_factory=FixedClock)
    entropy: CountingEntropy = field(default_factory=CountingEntropy)
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    settings: Settings = field(
        default_factory=lambda: Settings(
            cluster="c1", node="n1", directory="/state", socket_path="/run/s", spawner_pid=100
        )
    )
    controller: PeerCredentials = CONTROLLER
    agent: PeerCredentials = AGENT
    cut_off: type[BaseException] = CutOffError

    def open(self, cluster: str = "c1") -> tuple[Authority, bool]:
        return open_authority(
            cluster, self.settings.node, Store(self.disk), self.clock, self.entropy
        )

    def service(self) -> CertificateService:
        return CertificateService(
            self.settings,
            self.open()[0],
            clock=self.clock,
            entropy=self.entropy,
            notice=self.notice,
        )

    def notice(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def name(self, role: str = "hub", identity: str = "a1", node: str = "n1") -> AgentName:
        return AgentName("c1", node, role, identity)

    @property
    def last_reason(self) -> str:
        return str(self.events[-1][1]["reason"])


class TokenLog:
    """The section of join tokens on a real machine; stamps come from a clock."""

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.state = JoinTokenState()
        self.machine = Machine([self.state])
        self.index = 0
        self.events: list[object] = []

    def apply(self, command: object, *, time_ms: int | None = None) -> object:
        """The result of a command; an error is raised."""
        self.index += 1
        stamp = Stamp(
            self.clock.now_ms() if time_ms is None else time_ms, bytes(SEED_BYTES), "t", self.index
        )
        applied = self.machine.apply(self.index, encode(command, stamp))
        self.events += applied.events
        if applied.error is not None:
            raise applied.error
        return applied.result

    async def propose(self, command: object) -> object:
        return self.apply(command)

    def token(self, authority: str = "ab" * 32, life_s: int = 600) -> str:
        """A token that the state knows."""
        digest = hashlib.sha256(self.index.to_bytes(8, "big")).digest()
        text, command = new_token(
            digest[: join_tokens.ENTROPY_BYTES],
            authority,
            now_ms=self.clock.now_ms(),
            life_s=life_s,
            created_by="tests",
        )
        assert isinstance(command, CreateJoinToken)
        self.apply(command)
        return text


class Cluster:
    """A cluster of one node, the holder, that lets others in."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.authority = self.rig.open()[0]
        self.clock = self.rig.clock
        self.log = TokenLog(self.clock)
        self.taken: dict[str, str] = {}  # node -> key
        self.holder_is_there = True
        self.notices: list[tuple[str, dict[str, object]]] = []
        self.service = JoinService(
            "c1",
            propose=self.log.propose,
            certify=self.certify,
            peers=lambda: {"n1": "192.0.2.1:7000"},
            check=self.check,
            clock=self.clock,
            notice=lambda event, **fields: self.notices.append((event, fields)),
            version="1.2",
        )

    def token(self, life_s: int = 600) -> str:
        return self.log.token(self.authority.fingerprint, life_s)

    def check(self, node: str, key: str, address: str) -> None:
        if self.taken.get(node, key) != key:
            raise PlatformError("conflict", f"there is a node {node} already")

    async def certify(self, request: str, node: str) -> str:
        if not self.holder_is_there:
            raise PlatformError("unavailable", "the holder of the key does not answer")
        return self.authority.certify_node(csr.read_node(request.encode()))

    def shown(self, role: str = "hub") -> tuple[bytes, ...]:
        """The chain that the hub of the holder shows, DER."""
        name = AgentName("c1", "n1", role, "h1")
        asked = csr.read(csr.make(name, keys.make_key()))
        pem = self.authority.issue(name, asked, life_s=86_400) + self.authority.pem
        return tuple(x509.certificate_der(one) for one in x509.read_chain(pem.encode()))


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def log() -> TokenLog:
    return TokenLog(FixedClock())


@pytest.fixture(scope="session")
def make_rig() -> type[Rig]:
    return Rig
