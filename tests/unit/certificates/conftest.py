"""A disk that can be cut off at any operation, clocks that stand still, and a whole manager."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass, field

import pytest

from paas.certificates.authority import Authority, open_authority
from paas.certificates.manager import CertificateService
from paas.certificates.settings import Settings
from paas.certificates.state import Store
from paas.identity.names import AgentName
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
        return open_authority(cluster, Store(self.disk), self.clock, self.entropy)

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


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(scope="session")
def make_rig() -> type[Rig]:
    return Rig
