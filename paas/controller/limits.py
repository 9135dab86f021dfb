"""Bounds of the component controller and how they relate."""

from paas.base.retry import Backoff
from paas.raft.limits import COMMAND_BYTES_MAX, RESULT_BYTES_MAX

TYPES_MAX = 10_000
"""Registered component types."""

COMPONENTS_MAX = 10_000
"""Components of the cluster that have not ended for good."""

CREATE_COUNT_MAX = 500
"""Components that one request creates: one command of the log, whose result names them all."""

ENDED_KEPT_MAX = 1_000
"""Components that ended for good and are still remembered: "why did it end?" has an answer."""

ENDED_KEPT_S = 24 * 3_600.0
"""How long one that ended for good is remembered."""

REQUESTS_KEPT_MAX = 10_000
"""Request identifiers remembered, so that a repetition creates nothing new."""

REQUEST_ID_LENGTH_MAX = 128
LINKS_OF_COMPONENT_MAX = 256
GROUPS_OF_COMPONENT_MAX = 64
"""Groups that a component is created with; it may join more by itself."""

GROUP_LENGTH_MAX = 128
CONSTRAINTS_MAX = 32
CONFIGURATION_BYTES_MAX = 16 << 10
"""A configuration is part of the command; large values are blobs, referred to by digest."""

NAME_LENGTH_MAX = 63
"""A name is also the host name in the container."""

REASON_LENGTH_MAX = 512
SUGGESTIONS_MAX = 3
FILTER_KEYS = ("type", "group", "name", "state", "node")

RESTART_BACKOFF = Backoff(0.1, factor=2.0, cap_s=30.0)
"""Between the end of an incarnation and the start of the next."""

PROCEDURE_BACKOFF = Backoff(0.05, factor=2.0, cap_s=2.0)
"""Between tries of one step of ours (a log without leader, a container controller that refuses)."""

START_TIMEOUT_S = 60.0
"""The container controller's time to start one container."""

INITIALIZING_AFTER_S = 0.25
"""A component that is not ready by then is shown as initializing; quicker ones save the command."""

READY_MARGIN_S = 5.0
"""The harness ends a component that is not ready in time; so long after that, force is used."""

HARNESS_WAIT_S = 2.0
"""How long a stop waits for a harness that is not connected, before force is used."""

STOP_REQUEST_TIMEOUT_S = 5.0
STOP_MARGIN_S = 1.0
"""The harness kills when the grace is over; so long after that, the container controller does."""

LINK_GRACE_S = 1.0
"""Time to end for a component whose linked one has ended abnormally."""

TERMINATE_PATIENCE_S = 30.0
"""A component that accepted to terminate has so long to end, then it is stopped."""

GRACE_S_MAX = 3_600.0
DESTROY_TIMEOUT_S = 60.0
PROPOSE_TIMEOUT_S = 10.0
LIST_TIMEOUT_S = 10.0
STATS_TIMEOUT_S = 2.0
STATS_KEPT_S = 1.0
"""Memory figures are asked for at most once in this time."""

ANSWER_MARGIN_S = 0.25
"""A create gives up so long before its sender does, to say why."""

UNDO_TRIES_MAX = 10
"""How often the undo of a create is proposed to a log that does not take it."""

LOG_LINES_IN_ERRORS = 20

CREATE_PLANS_MAX = 5
"""How often a create chooses nodes anew because others filled them meanwhile."""

PLACING_RETRY_S = 2.0
"""A component for which there is no node is looked at again after this, if nothing changes."""

PLACING_PAUSE_S = 0.02
"""Between two rounds of placing: changes come in bursts, one round sees them all."""

PLACING_BATCH_MAX = 128
"""Components that one round places."""

PLACING_REASONS_MAX = 32
"""Reasons that one round writes down for components that it cannot place."""

MOVES_MAX = 4
"""Components of a node that is emptied which are on their way at the same time."""

MOVE_WAIT_S = 30.0
"""So long one that moves holds its place among these, waiting to be available elsewhere."""

DRAIN_SHOWN_MAX = 100
"""Components that the answer of a drain names."""

REMOTE_TIMEOUT_S = 1.0
"""For figures of another node: a list of components does not wait longer for it."""

assert ENDED_KEPT_MAX >= 100, "a burst of failures must not push out its own first cause"
assert CREATE_COUNT_MAX <= COMPONENTS_MAX
assert CREATE_COUNT_MAX * 48 < RESULT_BYTES_MAX, "an id is 40 digits and its frame"
assert CONFIGURATION_BYTES_MAX <= COMMAND_BYTES_MAX // 2
assert PROCEDURE_BACKOFF.cap_s < PROPOSE_TIMEOUT_S

BARRIER_RETRY_S = 0.5
"""How often a replica without a leader tries to find out what it may have missed."""

DEPARTURE_S_MAX = 3_600.0
"""Longest time that a component which is to be stopped waits for gateways to let go."""

DEPARTURE_MARGIN_S = 1.0
"""Beyond the end of a departure its keeper waits so long for acknowledgements on their way."""

DEPARTURE_SHARE = 0.7
"""Of the time that an asker of `controller.terminate` waits: the rest is for the component."""
