"""Numbers of the simulation of the platform."""

HEAL_S = 75.0
"""The last part of a run: nothing goes wrong any more; within it all must have converged."""

LEADER_WITHIN_S = 5.0
"""After the faults end there is a leader within this time."""

REST_S = 25.0
"""The last part of that: clients and components rest, too, and a mess they left is cleared up."""

MEMORY_BYTES = (128 << 20, 256 << 20)
"""Of one node; drawn once a seed.  The scheduler gives out MEMORY_OVERCOMMIT times as much."""

FILLED_MAX = 0.65
"""Clients create no more than this part of what the three smallest nodes could take."""

COMPONENTS_WANTED = (6, 10, 14)
"""About how many components clients keep alive; drawn once a seed."""

CLIENTS = 3

LETTER_EVERY_S = 2.0
"""Between two messages that an operator casts to a durable mailbox, on average."""

READERS_WANTED = 2
"""Members of the groups that have mailboxes; who is lost is replaced."""

MONITOR_PATIENCE_S = 15.0
"""A monitor has fired so long after what it is about was over, when all is well."""

ANSWER_PATIENCE_S = 20.0
"""No request of a component waits for longer than its own time limit and this."""
