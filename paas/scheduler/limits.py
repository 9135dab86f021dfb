"""Bounds and weights of placement and how they relate."""

COMPONENTS_PER_NODE_MAX = 1_010
"""Containers that one node's controller keeps."""

MEMORY_OVERCOMMIT = 4.0
"""Limits of memory on a node may add up to this multiple of what it has: few use all of theirs."""

DISK_OVERCOMMIT = 4.0

CPU_FULL = 32.0
"""Processor limits bound nothing (time is shared); at this multiple of its cores a node gets 0."""

SPREAD_WEIGHT = 2.0
"""Instances of one type apart from each other."""

DOMAIN_WEIGHT = 4.0
"""Instances of one type in failure domains apart from each other, where nodes have such."""

PRESSURE_WEIGHT = 1.0
"""Even pressure, on the resource of which a node has least left."""

assert SPREAD_WEIGHT > PRESSURE_WEIGHT, "losing a node must not take all instances of a type"
assert DOMAIN_WEIGHT > SPREAD_WEIGHT + PRESSURE_WEIGHT, "domains first, then nodes within them"
