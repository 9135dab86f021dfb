"""Bounds of the node controller, of leases and of membership, and how they relate."""

from paas.base.retry import Backoff
from paas.raft.limits import MEMBERS_MAX, VOTERS_MAX

HEALTH_PERIOD_S = 2.0
"""Between two pings of an agent."""

HEALTH_TIMEOUT_S = 10.0
"""An agent that does not answer a ping for so long is killed and started anew."""

START_TIMEOUT_S = 30.0
"""An agent that is not ready after this time has failed to start."""

STOP_TIMEOUT_S = 10.0
"""An agent that was asked to stop and has not is killed after this time."""

TEARDOWN_TIMEOUT_S = 180.0
"""The same for an agent that also removes what outlives it (containers, links, mounts)."""

RESTARTS_MAX = 30
RESTARTS_WITHIN_S = 60.0
"""More restarts of agents than this within the period end the node controller itself.

systemd's default allows as many (StartLimitBurst=5 within 10 s, systemd-system.conf(5)).
"""

RESTART_BACKOFF = Backoff(0.1, cap_s=1.0)
"""Agents are what everything waits for, and a start costs a second of one core at most: the
intensity above, not a long wait, is what ends a series of crashes."""

HEALTHY_S = 3.0
"""After a life of this length the back-off begins anew, with a tenth of a second at most."""

assert HEALTH_TIMEOUT_S > HEALTH_PERIOD_S

LEASE_S = 2.5
"""How long a node may run its components after it *sent* a renewal that was granted."""

RENEW_S = 0.75
"""Between two renewals while they are granted."""

RETRY_S = 0.2
"""Between two renewals while the last one is not granted (no answer, no leader, a new leader)."""

RENEW_TIMEOUT_S = 1.0
"""An answer to a renewal is not waited for any longer; later ones are asked meanwhile."""

SHARE_S = 0.02
"""The first renewal after a pause waits so long for others to share its round of the log."""

MARGIN_S = 0.5
"""Between the end of a lease and the decision that its node is lost: for rates of clocks that
differ, and for the fence to kill what ran."""

CLOCK_DRIFT_MAX = 0.01
"""Largest deviation of a clock's rate from real time.  Settings of clocks do not matter."""

FENCE_KILL_S = 0.4
"""Within this time after the deadline the fence has killed everything."""

ELECTION_S = 1.5
"""Within this time after the death of a leader there is a new one (99 of 100 times)."""

LOSS_CHECK_S = 0.25
"""Between two looks of the leader for nodes whose lease is over."""

STORAGE_PROPOSAL_S = 1.0
"""The command that a node's storage is full, or not, is waited for so long; then proposed again."""

ROOM_AGAIN_S = 3.0
"""A node says that its storage has room again when it had room for so long: what the disk says may
change with the size of what is to be written."""

LOSS_PROPOSAL_S = 5.0
"""The command that a node is lost is waited for so long; after that its outcome is not known."""

GIVE_UP_S = 900.0
"""A node that has been offline for so long is `failed`: it is not waited for any more."""

REPORT_RETRY_S = 0.5
"""Between two attempts of a node to report to the cluster."""

REPORT_TIMEOUT_S = 5.0
"""A report, and what must be known before it, is waited for so long; then it is tried again."""

REMOVED_NAMES_MAX = 4_096
"""Names of removed nodes that are remembered and refused; beyond it the oldest is forgotten."""

NODES_MAX = 500
"""Nodes of a cluster, lost ones counted."""

LABELS_MAX = 64
LABEL_LENGTH_MAX = 256
"""Bounds of what a node says about itself."""

VOTERS_DEFAULT = 5
"""Voters of the replicated log when there are enough nodes: survives the loss of two."""

CAUGHT_UP_ENTRIES = 1_000
"""An observer that lacks no more entries than this may become a voter."""

CAUGHT_UP_S = 1.0
"""An observer that was heard of within this time may become a voter."""

FAREWELL_S = 1.0
"""A removed node stays a member of the log for so long, to hear that its removal is committed."""

MEMBERSHIP_CHECK_S = 1.0
"""Between two looks of the leader at who votes."""

assert RETRY_S < RENEW_S
assert SHARE_S < RETRY_S
# A lease ends, on a slow clock, at the latest so long after its renewal was sent; the leader
# counts, on a fast clock, at least so long, from a moment that is not earlier than that.
_LONGEST_S = LEASE_S / (1 - CLOCK_DRIFT_MAX)
_SHORTEST_S = (LEASE_S + MARGIN_S) / (1 + CLOCK_DRIFT_MAX)
assert _LONGEST_S + FENCE_KILL_S <= _SHORTEST_S
# The death of a leader ends no lease: the last renewal was RENEW_S old, and the next is granted
# one attempt after the election.
assert LEASE_S > RENEW_S + ELECTION_S + RETRY_S
assert RENEW_TIMEOUT_S < LEASE_S
assert VOTERS_DEFAULT % 2 == 1
assert VOTERS_DEFAULT <= VOTERS_MAX
assert NODES_MAX < MEMBERS_MAX, "every node is a member, and one may be on its way"
