"""Numbers of the consensus simulation."""

FAULTS_S = 60.0
"""So long things go wrong."""

HEALED_S = 30.0
"""So long everybody is well again; within it all must have converged."""

LEADER_WITHIN_S = 5.0
"""After the faults end there is a leader within this time, and stays."""

DRAIN_S = 15.0
"""Clients go on for so long after the faults end, then rest."""

PROCESSING_S = 0.003
"""From the first message in a replica's queue to the step that takes it; others join meanwhile."""

DEAF_S = 3.0
"""So long a follower hears nothing, when all else is well."""

INBOX_MESSAGES_MAX = 64
"""Messages that wait for one replica; more are lost, or cost the sender its connection."""

SILENT_S = 3.0
"""A connection over which nothing gets through is given up after this, by each side."""

TICK_S = 0.05
"""How often a replica that does not sleep on its timers looks at them."""

OPERATION_TIMEOUT_S = (1.0, 6.0)
"""How long a client waits for an answer, drawn for each operation."""
