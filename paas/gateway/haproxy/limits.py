"""Bounds of the HAProxy data path.  Seconds, bytes, counts."""

REQUEST_S = 10.0
"""For the head of a request: slow senders are cut off."""

BODY_FIRST_BYTES = 8192
"""A body, or so much of it, is there before a member is asked, in the same time as a head."""

KEEP_ALIVE_S = 60.0
CLIENT_S = 60.0
"""Without a byte from a client that is to send, or to take, something."""

CONNECT_S = 2.0
UNHEARD_IDLE_S = 2
UNHEARD_INTERVAL_S = 1
UNHEARD_COUNT = 3
"""A member's connection that says nothing is asked after so long, so often, and then is dead."""

STREAM_S = 3600.0
"""Server-sent events may be silent for so long."""

CHECK_S = 2
CHECKS_FAIL = 3
ERRORS_MAX = 5
"""Failed connections in a row, after which a member gets nothing until a check succeeds."""

RATE_PERIOD_S = 10
"""Slow rates are counted over this."""

RATE_SOURCES_MAX = 100_000

WEIGHT_MAX = 256
"""HAProxy's own."""

START_S = 10.0
RELOAD_S = 10.0
COMMAND_S = 5.0
ANSWER_BYTES_MAX = 16 << 20
"""Of one order: a row of some 200 bytes for each of tens of thousands of servers."""

RETRY_S = 0.2
RETRY_CAP_S = 2.0
"""Between attempts at what could not be done yet: a server that still has connections."""

SOURCES_MAX = 100_000
"""Addresses whose connections are counted."""

SILENT_S = 30.0
"""A HAProxy that does not answer its master's socket for so long is started anew."""

RESTART_FIRST_S = 0.05
RESTART_CAP_S = 5.0
STABLE_S = 10.0
"""Who has lived so long begins with the first delay again."""

OLD_WORKERS_MAX = 16
"""Workers that still have something under way, of 5 MB each; the oldest beyond are ended, with what
they have."""

GATHER_S = 0.05
"""Routes that come so close together are one reload."""

ALLOCATOR = "glibc.malloc.trim_threshold=16777216:glibc.malloc.top_pad=1048576"
"""Copies of what may have to be repeated come and go in numbers: so many bytes of them are not
given back to the kernel, which would have to clear them anew for the next ones."""

DESCRIPTORS_KEPT = 128
DESCRIPTORS_A_CONNECTION = 2

BUSY_POLL_S = 0.05
CERTIFICATES_S = 1.0
"""How often the folder of certificates is looked at."""
