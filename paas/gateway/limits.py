"""Bounds of routes, of who follows them, and of departures."""

from paas.base.limits import FRAME_BYTES_MAX

ROUTES_MAX = 1_000
"""Routes of a cluster: they are part of its state."""

ROUTE_BYTES_MAX = 16 << 10
"""One route in msgpack, all of its tables included."""

NAME_LENGTH_MAX = 128
HOST_LENGTH_MAX = 253
"""RFC 1035 §2.3.4, without the dot at the end."""

PATH_LENGTH_MAX = 1_024
WEIGHTS_MAX = 32
WEIGHT_MAX = 1_000
WEIGHT_DEFAULT = 100
"""Of a member that no entry of `weights` names, when there are none at all."""

HEADERS_MAX = 32
HEADER_BYTES_MAX = 4 << 10
METHODS_MAX = 32
TEXT_BYTES_MAX = 1 << 10

TIMEOUT_S_MIN = 0.1
TIMEOUT_S_MAX = 3_600.0
TIMEOUT_S_DEFAULT = 30.0
RETRIES_MAX = 10
RETRIES_DEFAULT = 2

BODY_BYTES_MAX = 4 << 30
"""What a route of kind `endpoint` may let pass; it streams."""

BODY_BYTES_DEFAULT = 16 << 20

OPERATION_BODY_BYTES_MAX = 3 << 20
"""A request's or an answer's body in one message of an operation; beyond, it is sent in pieces."""

SEND_BYTES_MAX = 1 << 20
"""One `gateway.send`: a WebSocket message, or a piece of an answer."""

DRAIN_S_DEFAULT = 30.0
DRAIN_S_MAX = 3_600.0
RATE_MAX = 1_000_000.0

GATEWAYS_MAX = 64
"""Gateways that follow at the same time, in a cluster: each is waited for at every departure."""

FOLLOWED_MEMBERS_MAX = 4_096
"""Members that one gateway is told of."""

GRANTS_KEPT_MAX = 10_000
"""Remembered answers to whether a route allows a call."""

ROUTE_SUGGESTIONS_MAX = 3

PATHS_WAIT_S = 3.0
"""How long the answer to who begins to follow waits for paths; the others are told later."""

PATH_RETRY_S = 0.5
"""A path that could not be opened is tried again after so long; the member is told meanwhile to
nobody."""

PROPOSE_TIMEOUT_S = 10.0

PUSH_TIMEOUT_S = 10.0
"""How long a browser may take to accept what `gateway.send` has for it, before it is cut off."""

assert OPERATION_BODY_BYTES_MAX + (64 << 10) <= FRAME_BYTES_MAX, "head and body fit in one frame"
assert SEND_BYTES_MAX <= OPERATION_BODY_BYTES_MAX
