"""What an operator may tune in the replicated log, with the relations that must hold."""

from __future__ import annotations

from dataclasses import dataclass

from paas.base.errors import invalid
from paas.raft import limits


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """The defaults suit a local network."""

    heartbeat_s: float = 0.1
    """A leader says at least this often that it is alive."""

    election_min_s: float = 0.4
    election_max_s: float = 0.8
    """A follower that hears nothing asks for an election after a random time between the two; it
    listens to nobody else who would for at least the shorter one."""

    leader_fallback_s: float = 1.5
    """A leader that does not hear of a majority for this long steps down."""

    compaction_bytes: int = limits.COMPACTION_BYTES
    compaction_entries: int = limits.COMPACTION_ENTRIES
    append_bytes: int = limits.APPEND_BYTES
    """Entries go together in one message up to this; a longer one goes alone."""

    snapshot_chunk_bytes: int = limits.SNAPSHOT_CHUNK_BYTES

    sync_in_thread: bool = True
    """Wait for the disk in a worker thread.  Off for simulated disks, which never wait."""

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s * 3 < self.election_min_s < self.election_max_s:
            raise invalid("election_min_s", "more than 3 heartbeats, and below election_max_s")
        if self.leader_fallback_s <= self.heartbeat_s:
            raise invalid("leader_fallback_s", "more than one heartbeat")
        if not 0 < self.append_bytes <= limits.APPEND_BYTES_MAX:
            raise invalid("append_bytes", f"1 to {limits.APPEND_BYTES_MAX}")
        if not 0 < self.snapshot_chunk_bytes <= limits.APPEND_BYTES_MAX:
            raise invalid("snapshot_chunk_bytes", f"1 to {limits.APPEND_BYTES_MAX}")
