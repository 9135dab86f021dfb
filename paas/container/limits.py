"""Bounds of the container controller and how they relate."""

CONTAINERS_MAX = 1_000
"""Containers of one node, exited ones that wait for their destruction included."""

MEMORY_BYTES_MIN = 4 << 20
CPU_CORES_MIN = 0.01
PIDS_MIN = 2
PIDS_MAX = 32_768
DISK_BYTES_MIN = 1 << 20
DISK_BYTES_MAX = 1 << 40
IO_BYTES_PER_S_MIN = 64 << 10
IO_BYTES_PER_S_MAX = 1 << 40

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

OPEN_FILES = 16_384

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

LEASE_S_MAX = 3_600.0
"""No lease lasts longer; a deadline beyond is of another clock."""

CLEAR_PAUSE_S = 0.005
"""Between two passes of killing, while something still lives or is on its way up."""

HARNESS_LOG_TAIL_BYTES = 4_096
EXIT_FILE_BYTES_MAX = 16 << 10
ORDER_BYTES_MAX = 4 << 20
STATUS_BYTES_MAX = 64 << 10

assert UID_BASE_MIN >= UIDS_PER_CONTAINER, "the host's own users stay outside every range"
assert COMPONENT_UID < UIDS_PER_CONTAINER
assert CONFIGURATION_BYTES_MAX + ENVIRONMENT_BYTES_MAX + COMMAND_BYTES_MAX < ORDER_BYTES_MAX
assert ENDPOINT_PORT_FIRST + ENDPOINTS_MAX < 65_536
