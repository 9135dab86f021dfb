"""Bounds of the fetcher.  Bytes, seconds, counts; what a caller may change is in settings.py."""

URL_MAX = 4096
"""Bytes.  Longer ones are refused, given or met in a redirect (RFC 9110 §4.1 asks for 8,000 at
most of a server; nobody's feed needs half)."""

HEADERS_MAX = 64
HEADER_BYTES_MAX = 8192
"""Of a caller's request: count, and bytes of names and values together."""

RESPONSE_HEADERS_MAX = 128
RESPONSE_HEAD_BYTES_MAX = 32_768
"""Of an answer's head, or its trailer; also of one line of a chunk."""

INFORMATIONAL_MAX = 8
"""Interim answers (1xx) before the answer."""

BODY_MAX = 4 << 20
"""Bytes of an answer's body after decoding, unless the caller says otherwise."""

BODY_MOST = 64 << 20
"""What a caller may say."""

REQUEST_BODY_MAX = 16 << 20

CODED_MEMBERS_MAX = 32
"""Members of one gzip body (RFC 1952 §2.2): empty ones cost time and yield nothing."""

EXPANSION_MAX = 1032
"""What deflate can make of a byte at most (RFC 1951: 258 bytes in 2 bits); a stream that yields
nothing for long is cut by the bounds of time."""

CHUNKS_FREE = 8192
CHUNK_BYTES_MEAN = 128
CHUNKS_A_SECOND = 200
"""A body may come in so many chunks, one more for each so many bytes, and so many a second:
chunks of one byte cost a thousand times what they carry."""

PIECE_BYTES = 65_536
"""One read of a socket."""

DRAIN_BYTES = 65_536
"""The rest of an answer that nobody wants is read up to this, to use its connection again."""

TIMEOUT_S = 30.0
TIMEOUT_MOST_S = 600.0
CONNECT_S = 10.0
RESOLVE_S = 10.0
IDLE_S = 15.0
"""Without a byte of the answer."""

SLOW_AFTER_S = 10.0
SLOW_BYTES_A_SECOND = 64.0
"""A body that takes longer than the first must have come at this rate so far (not: streams)."""

REDIRECTS = 10
REDIRECTS_MOST = 20
MOVED_MAX = 20_000
MOVED_LIFE_S = 7 * 86_400.0
"""Permanent redirects are remembered so many, so long."""

RETRIES = 2
RETRIES_MOST = 5
RETRY_FIRST_S = 0.25
RETRY_CAP_S = 10.0
RETRY_AFTER_MOST_S = 86_400.0
"""A Retry-After beyond this counts as this."""

CONCURRENT_MAX = 256
"""Requests at a time."""

CONCURRENT_PER_HOST = 6
WAITING_PER_HOST_MAX = 1024
"""Who comes when so many wait for one host is refused."""

HOSTS_MAX = 10_000
"""Hosts whose pace is kept in mind."""

ADDRESSES_MAX = 8
"""Addresses of one name that are tried."""

IDLE_CONNECTIONS_MAX = 128
IDLE_CONNECTION_S = 15.0
CREDENTIALS_MAX = 256
CREDENTIAL_BYTES_MAX = 8192
