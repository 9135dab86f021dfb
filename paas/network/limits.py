"""Numbers of the networks between nodes, and why they are what they are."""

CLUSTER_NETWORK = "10.64.0.0/10"
"""All containers of a cluster have addresses in here; a /21 of it belongs to each node."""

NODE_PREFIX_LENGTH = 21
"""2,046 addresses on each node, and 2,048 nodes."""

NETWORKS_MAX = 2048

CALL_TIMEOUT_S = 10.0
"""For the packet filter of this node; a transaction takes milliseconds."""

OPEN_TIMEOUT_S = 10.0
"""For the other end of a path: one request to another hub, and the filter there."""

OPEN_ATTEMPTS = 5
OPEN_RETRY_S = 0.2
"""The other node may not have heard yet of what this one knows already."""

RETRY_S = 1.0
"""After what could not be done: the filter of this node did not answer, nobody leads the log."""

PROVIDERS_MAX = 32
"""So many members of a group on other nodes are offered to one who asks for it."""

FAR_PATHS_MAX = 16_384
"""Paths of one node that begin or end on another one."""
