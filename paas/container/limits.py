"""Bounds of the container controller and how they relate."""

CONTAINERS_MAX = 1_016
"""Containers of one node, exited ones that wait for their destruction included.  A bridge of Linux
has 1,023 ports, of which the pool takes some."""

MEMORY_BYTES_MIN = 4 << 20
CPU_CORES_MIN = 0.01
PIDS_MIN = 2
PIDS_MAX = 32_768
DISK_BYTES_MIN = 1 << 20
DISK_BYTES_MAX = 1 << 40
IO_BYTES_PER_S_MIN = 64 << 10
IO_BYTES_PER_S_MAX = 1 << 40
CPU_WEIGHT_MIN = 1
CPU_WEIGHT_MAX = 10_000

COMMAND_ARGUMENTS_MAX = 1_024
COMMAND_BYTES_MAX = 128 << 10
ENVIRONMENT_BYTES_MAX = 128 << 10
CONFIGURATION_BYTES_MAX = 1 << 20
ENDPOINTS_MAX = 64
HOST_NAME_LENGTH_MAX = 63
READY_TIMEOUT_S_MAX = 3_600.0

ENDPOINT_PORT_FIRST = 8_000
"""Ports of endpoints count from here: every container has an address of its own."""

UIDS_PER_CONTAINER = 65_536
UID_BASE_MIN = 100_000
COMPONENT_UID = 1_000
COMPONENT_GID = 1_000

HARNESS_MEMORY_BYTES = 128 << 20
"""What pid 1 of a container may use; its component cannot take it away."""

HARNESS_PIDS = 16
TMP_BYTES_MAX = 64 << 20
"""Size of /tmp and of /dev/shm, each; less when the component's memory is less."""

RUN_BYTES_MAX = 4 << 20
"""Size of /run, which holds sockets and small notes."""

BYTES_PER_INODE = 4_096
INODES_MIN = 1_024
"""How many files a writable layer in memory may hold: one for each so many bytes, at least so many.
"""

SHOWN_ENTRIES_MAX = 1_024
"""Entries at the top of a base or bundle that can be shown one by one (file system `binds`)."""

TEMPLATES_MAX = 32
"""Templates on Btrfs, of the pairs of base and bundle used most lately."""

SNAPSHOTS_MAX = 16
SNAPSHOT_BYTES_MAX = 16 << 30
"""Snapshots of one component: how many, and how much all of them may take together."""

OPEN_FILES = 16_384
LOCKED_BYTES = 8 << 20
MESSAGE_QUEUE_BYTES = 819_200
PENDING_SIGNALS = 4_096
"""Resource limits of everything in a container (getrlimit(2)); the last also counts timers."""

HOOK_DEADLINE_S = 20.0
"""A hook that takes longer has failed."""

DESTROY_DEADLINE_S = 20.0
"""How long one hook may take to remove what it made."""

POOL_PAUSE_S = 0.03
"""How long a pool waits before it makes up for what was taken, so as not to compete with the start
that took it."""

POOL_RETRY_S = 1.0
"""How long a pool that could not be filled waits before it tries again."""

POOL_NETWORKS = 4
"""Network namespaces kept ready, so that a start need not wait for one."""

POOL_DISKS = 4
"""Writable layers kept ready, for each of the sizes asked for most lately."""

POOL_DISK_SIZES = 2

REAP_TRIES = 200
REAP_PAUSE_S = 0.005
"""How often and how closely to look whether an ended process is ours to reap."""

SWEEP_PAUSE_S = 0.2
"""How closely to look, while a container is ended, for processes of it that nobody told us of."""

STRANGERS_PAUSE_S = 1.0
"""How closely to look for them at all times."""

LEASE_S_MAX = 3_600.0
"""No lease lasts longer; a deadline beyond is of another clock."""

FREEZE_S = 5.0
"""A component that does not come to a stop by then (it waits for the disk) is thawed again."""

FREEZE_PAUSE_S = 0.0005
FREEZE_PAUSE_S_MAX = 0.02
"""Between two looks whether everything has come to a stop; the pause doubles."""

TEARDOWN_AT_ONCE = 16
"""Containers that are destroyed at the same time when all have to go; more only wait for each other
in the kernel."""

CLEAR_PAUSE_S = 0.005
"""Between two passes of killing, while something still lives or is on its way up."""

VOLUME_FREE_WAIT_S = 10.0
"""How long a start waits for a volume whose container has just ended."""

VOLUME_PIECE_BYTES_MAX = 1 << 20
"""Content of a volume in one request."""

VOLUME_MAPS_KEPT = 32
"""User namespaces kept for mounts of volumes; a container has another range at each start."""

VOLUMES_LEAVE_BYTES = 256 << 20
"""No volume is made that leaves the disk less: the log of the cluster may be there too."""

HARNESS_LOG_TAIL_BYTES = 4_096
EXIT_FILE_BYTES_MAX = 16 << 10
ORDER_BYTES_MAX = 4 << 20
STATUS_BYTES_MAX = 64 << 10

ENTERED_MAX = 256
"""People's commands, copies and connections inside containers of this node at a time."""

ENTERED_OF_ONE_MAX = 32
"""The same inside one container."""

ENTER_S = 10.0
"""How long it takes at most from the order until a command runs inside."""

ENTERED_ENVIRONMENT_BYTES_MAX = 512 << 10
"""What is read of a component's environment for a command beside it."""

CONNECT_S = 5.0
"""How long an endpoint inside has to take a connection."""

ENTER_END_S = 5.0
"""What was entered is killed when its caller has gone, and is given so long to be gone."""

TERMINAL_SIDE_MAX = 10_000
"""Rows or columns."""

assert UID_BASE_MIN >= UIDS_PER_CONTAINER, "the host's own users stay outside every range"
assert COMPONENT_UID < UIDS_PER_CONTAINER
assert CONFIGURATION_BYTES_MAX + ENVIRONMENT_BYTES_MAX + COMMAND_BYTES_MAX < ORDER_BYTES_MAX
assert ENDPOINT_PORT_FIRST + ENDPOINTS_MAX < 65_536

QUESTIONS_MAX = 256
QUESTIONS_SOURCE_MAX = 32
"""Questions for names that are being answered at a time, of all containers of a node and of one."""

QUESTIONS_SOURCE_PER_S = 2_000
"""Of one container; what is more is dropped, which costs less than to answer."""

QUESTIONS_BATCH = 64
"""Datagrams read before others have their turn."""

QUESTIONS_STREAM_S = 10.0
"""So long a container may keep a connection to ask by."""

QUESTION_BYTES_MAX = 1_232
"""Bytes of a question over UDP (the usual EDNS size)."""

QUESTION_S = 5.0
"""For an answer as a whole, in seconds."""

ADDRESSES_MAX = 32
"""Addresses of one answer that are used."""

RESOLVED_MAX = 1_024
"""What one container may have resolved at a time; each is an element of the packet filter."""

ANSWER_S_MIN = 5
ANSWER_S_MAX = 3_600
"""How long an answer is good, in seconds, whatever the name's owner says."""

ANSWER_GRACE_S = 30
"""So much longer an address passes: who asked just before is still about to connect."""
