"""Bounds of applications and how they relate."""

from paas.base.retry import Backoff
from paas.raft.limits import COMMAND_BYTES_MAX

FILE_BYTES_MAX = 64 << 10
"""Bytes of an application.toml."""

SPECIFICATION_BYTES_MAX = 24 << 10
"""A specification is one command of the log, and larger configurations are blobs."""

APPLICATIONS_MAX = 200
ROLES_MAX = 32
ROUTES_MAX = 64
REQUIRES_MAX = 32
COUNT_MAX = 200
"""Members of one role."""

MEMBERS_MAX = 500
"""Members of one application."""

GROUPS_MAX = 16
"""Further groups of a role's members."""

CONSTRAINTS_MAX = 32
CONSTRAINT_LENGTH_MAX = 200
DESCRIPTION_BYTES_MAX = 1_024
CONFIGURATION_DEPTH_MAX = 16
CONFIGURATION_BYTES_MAX = 16 << 10
"""As for a component: its configuration is part of the command that creates it."""

COMPONENT_NAME_LENGTH_MAX = 63
"""A member's name, application-role-number, is its host name."""

SLOT_DIGITS_MAX = 4
"""Digits of a member's number: at most one more than the count exists at a time."""

ROUTE_BODY_BYTES_MAX = 4 << 30
"""What a file may ask for; the gateway's own bounds are checked with the route."""

GRACE_S_MAX = 3_600.0
TROUBLES_MAX = ROLES_MAX + ROUTES_MAX + 8
"""Reasons that are kept: one for each role and route, and a few of the whole."""

TROUBLE_LENGTH_MAX = 512

STEPS_MAX = 8
"""Steps that one hub has under way at the same time, of all applications that it decides about."""

BIRTHS_MAX = 8
"""Members of one application that are being born at the same time."""

ENDS_MAX = 8
"""Members of one application that are ending at the same time when it shrinks."""

STEP_TIMEOUT_S = 20.0
"""A step is a command of the log or two; what follows from it is waited for by looking."""

BIRTHS_KEPT_MAX = 4_096
"""Places of members that are remembered with how often one was born there."""

LOOK_PERIOD_S = 2.0
"""An application that is not settled is looked at again after this, if nothing changes."""

DEGRADED_AFTER_S = 1.0
"""Something has to be missing for so long before the application is called degraded."""

LOOK_PAUSE_S = 0.02
"""Between two looks: changes come in bursts, one look sees them all."""

STEP_BACKOFF = Backoff(0.5, factor=2.0, cap_s=30.0)
"""Before a step that failed is tried again."""

FAILED_BACKOFF = Backoff(5.0, factor=2.0, cap_s=120.0)
"""Before a member that the restart policy gave up is replaced by a new one."""

FAILURES_KEPT_MAX = 1_000
"""Steps whose failures are counted."""

PREVIEW_STEPS_MAX = 4 * MEMBERS_MAX + 2 * ROUTES_MAX
"""A plan that is not at its end after so many steps has a fault."""

STATUS_WAIT_S_MAX = 30.0
"""How long one request waits for a change."""

ANSWER_MARGIN_S = 0.25
"""A request gives up so long before its sender does."""

assert SPECIFICATION_BYTES_MAX + 4_096 < COMMAND_BYTES_MAX
assert CONFIGURATION_BYTES_MAX < SPECIFICATION_BYTES_MAX
assert COUNT_MAX + 1 < 10**SLOT_DIGITS_MAX
assert LOOK_PAUSE_S < LOOK_PERIOD_S
