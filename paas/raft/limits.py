"""Numbers of the replicated log and how they relate (keeper K9 of docs/internals/raft.md)."""

COMMAND_BYTES_MAX = 32 << 10
"""Largest command with its stamp; what is larger belongs into the blob store, by digest."""

RESULT_BYTES_MAX = 32 << 10
"""Largest result of a command, since results are kept to answer repetitions."""

DEDUP_WINDOW = 1_024
"""Sequence numbers of one proposer whose results are remembered."""

DEDUP_RESULTS_MAX = 16_384
"""Results remembered in all; beyond it the proposer that was silent longest is forgotten."""

IN_FLIGHT_MAX = 1_024
"""Proposals of one replica that wait for their outcome; one more is refused."""

EVENT_DEPTH_MAX = 8
"""An event may cause events, and those others, so often; deeper ones are dropped and logged."""

PREALLOCATED_BYTES = 1 << 20
"""The journal is filled ahead by this much: an accepted write cannot meet a full disk."""

RESERVED_BYTES = 128 << 10
"""Part of the preallocated space that proposals may not use: for terms, votes and elections."""

FREE_BYTES_MIN = 2 << 20
"""Space that stays free when the journal grows: a snapshot, which frees more, needs it."""

BATCH_BYTES_MAX = 64 << 20
"""Largest record that recovery believes in; nothing ever written comes near it."""

COMPACTION_BYTES = 8 << 20
"""A journal file of this size is compacted by a snapshot."""

COMPACTION_ENTRIES = 20_000
"""So many entries in memory are compacted by a snapshot."""

APPEND_BYTES = 64 << 10
"""Entries in one message; a longer command would be cut in pieces, which goes wrong (P30)."""

MESSAGE_BYTES_MAX = 1 << 20
"""Largest message between replicas."""

APPEND_BYTES_MAX = MESSAGE_BYTES_MAX - COMMAND_BYTES_MAX - 4_096
"""Entries in one message at most, whatever is set: the last one may reach beyond the bound."""

INBOX_MESSAGES_MAX = 4_096
"""Messages of peers that wait for the next step; more are dropped, which the protocol allows."""

FULL_COMPACTION_ENTRIES = 10
"""On a full disk the journal is compacted already for so few entries."""

SNAPSHOT_CHUNK_BYTES = 64 << 10
"""Piece of a snapshot in one message."""

SNAPSHOT_BYTES_MAX = 256 << 20
"""Largest snapshot that is accepted from a peer."""

PROPOSAL_TIMEOUT_S_DEFAULT = 10.0

READ_TIMEOUT_S_DEFAULT = 5.0

TRANSFER_TIMEOUT_S_DEFAULT = 2.0
"""A planned transfer that takes longer is given up, and the old leader goes on."""

YIELD_RETRY_S = 10.0
"""A leader with a full disk that found no successor looks for one again after this."""

VOTERS_MAX = 15
MEMBERS_MAX = 512
NAME_BYTES_MAX = 48
"""Bounds of a configuration, so that it fits into one command."""

READS_MAX = 4_096
"""Questions of peers for a read index that wait; one more is refused."""

RETURNED_REPEAT_S = 0.3
"""A replica that lost its log says so again after this, until it is let in."""

RETURNED_FORGOTTEN_S = 3.0
"""Who has not said so for this long does not want to be let in any more."""

DAMAGED_KEPT = 3
"""The files of so many damaged logs are kept."""

READ_REPEAT_S = 0.3
"""A question for the read index that is not answered is asked again after this."""

READ_RETRY_S = 0.05
"""A question that was refused is asked again after this."""

DENIED_PAUSE_S = 0.05
"""A proposal that another replica denied is handed over again after this."""

IDLE_S_MAX = 30.0
"""Longest sleep of a replica without timers; anything that happens wakes it."""

REST_S_MIN = 0.001
"""Shortest sleep of a replica that waits for a timer: by so much it may be late."""

RESUBMIT_S = 2.0
"""A proposal handed to another replica and not heard of is handed over again after this."""

STORAGE_RETRY_S = 1.0
"""How often a full disk is looked at again."""

assert APPEND_BYTES > COMMAND_BYTES_MAX + 64, "a command must never be sent in pieces"
assert MEMBERS_MAX * (NAME_BYTES_MAX + 3) + 64 < COMMAND_BYTES_MAX
assert RESERVED_BYTES < PREALLOCATED_BYTES / 2
assert FREE_BYTES_MIN > PREALLOCATED_BYTES, "a new journal must fit beside a full one"
assert IN_FLIGHT_MAX <= DEDUP_WINDOW, "a proposal in flight must never be older than the window"
assert APPEND_BYTES <= APPEND_BYTES_MAX
