"""Numbers of the name service, and why they are what they are."""

ZONE_DEFAULT = "paas.internal"
"""`internal` is reserved for private use (ICANN resolution 2024.07.29.06), so nothing leaks."""

NAME_BYTES_MAX = 255
LABEL_BYTES_MAX = 63
LABELS_MAX = 127
"""RFC 1035 §2.3.4; a name of 255 bytes has 127 labels at most."""

HEADER_BYTES = 12

QUERY_BYTES_MAX = 4096
"""Longer datagrams are no questions; what is sent by TCP is bounded by the same."""

UDP_PLAIN_BYTES = 512
"""RFC 1035 §4.2.1: who says nothing about sizes gets so many."""

UDP_BYTES_MAX = 1232
"""RFC 9715: what passes every path without fragments, however much is asked for."""

TCP_BYTES_MAX = 65_535

MEMBERS_MAX = 512
"""So many addresses of one name are told, the nearest first; a group may have 10,000 members."""

ROTATIONS_MAX = 8
"""Answers with several addresses come in so many orders, in turn."""

CNAMES_MAX = 8

TTL_COMPONENT_S = 5
TTL_NODE_S = 15
TTL_ZONE_S = 60
TTL_NEGATIVE_S = 2
"""RFC 2308: a name that is missing now may be there when the component is available."""

TTL_PUBLISHED_S_MIN = 1
TTL_PUBLISHED_S_MAX = 86_400

REFRESH_S, RETRY_S, EXPIRE_S = 60, 10, 86_400
"""Of the SOA: secondaries ask so often, though they are told of changes too."""

ANSWERS_KEPT_MAX = 65_536
"""Ready answers by the bytes of their question; all are dropped when there are more."""

ANSWERS_KEPT_BYTES_MAX = 16 << 20
"""The same in bytes: who varies sizes and flags gets no memory for it."""

BATCH_MAX = 64
"""Datagrams answered before others in this process have their turn."""

RECEIVE_BUFFER_BYTES = 4 << 20
"""A burst of some 10,000 questions waits there, not at the askers' timeouts."""

RATE_PER_S = 1_000
"""Answers to one network of askers (24 bits of version 4, 56 of version 6) each second by UDP."""

SLIP = 2
"""Beyond the rate each such answer is an empty one that says "ask by TCP", the others are none."""

RATE_NETWORKS_MAX = 16_384
"""Networks counted in one second; more together share one count."""

TCP_CONNECTIONS_MAX = 128
TCP_CONNECTIONS_SOURCE_MAX = 16
TCP_IDLE_S = 10.0
TCP_MESSAGE_S = 5.0
"""A message that began must be whole by then (who drips bytes is cut)."""
TCP_SEND_S = 10.0
TCP_QUERIES_MAX = 1_000
"""Of one connection; then it is closed."""

TRANSFERS_MAX = 4
TRANSFER_MESSAGE_BYTES = 16_384
"""RFC 5936 §2.2 lets a transfer have many messages; smaller ones keep the process responsive."""

NOTIFY_DELAY_S = 0.05
"""Changes within this time are one."""
NOTIFY_RETRY_S = 1.0
NOTIFY_ATTEMPTS = 5

TSIG_FUDGE_S = 300
TSIG_KEY_BYTES_MIN = 16
TSIG_KEYS_MAX = 16
SECONDARIES_MAX = 8

SIGNATURE_LIFE_S = 7 * 86_400
SIGNATURE_BACK_S = 3_600
"""A signature holds from an hour ago (clocks differ) for seven days (RFC 6781 §4.4.2)."""
SIGNATURES_KEPT_MAX = 20_000

PUBLISHED_MAX = 10_000
PUBLISHED_NAME_MAX = 64
"""Records of one name."""
PUBLISHED_COMPONENT_MAX = 64
"""Records that one component keeps up."""
PUBLISHED_REQUESTS_MAX = 100
TEXT_BYTES_MAX = 255
"""Of one string of a TXT record (RFC 1035 §3.3.14)."""
AGENTS_MAX = 16
"""Sub-systems that one node announces."""

FORWARD_TIMEOUT_S = 2.0
FORWARD_ATTEMPTS = 2
FORWARD_TOTAL_S = 5.0
FORWARD_WRONG_MAX = 16
"""So many datagrams that are no answer, and somebody guesses: the question is asked by TCP."""
FORWARD_OUTSTANDING_MAX = 256
FORWARD_BYTES_MAX = 4096
CACHE_ENTRIES_MAX = 10_000
CACHE_RECORDS_MAX = 64
"""Of one answer; more are left out."""
CACHE_TTL_S_MIN = 1
CACHE_TTL_S_MAX = 3_600
CACHE_NEGATIVE_S_MAX = 300
"""RFC 2308 §5 proposes one to three hours at most; what is missing may be about to come."""
CACHE_FAILURE_S = 2
"""RFC 9520 §3.2: a server that failed is not asked the same at once again."""

ZONE_QUESTION_S = 3.0
"""For the node's resolver: so long the hub may take, paths between nodes included."""
ZONE_QUESTIONS_MAX = 512
"""From containers, waiting for the hub at one time."""

ANNOUNCE_RETRY_S = 1.0
CALL_TIMEOUT_S = 10.0

assert UDP_PLAIN_BYTES <= UDP_BYTES_MAX <= QUERY_BYTES_MAX
assert TTL_NEGATIVE_S <= TTL_COMPONENT_S <= TTL_NODE_S <= TTL_ZONE_S
