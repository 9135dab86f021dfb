"""Bounds of the node controller and how they relate."""

HEALTH_PERIOD_S = 2.0
"""Between two pings of an agent."""

HEALTH_TIMEOUT_S = 10.0
"""An agent that does not answer a ping for so long is killed and started anew."""

START_TIMEOUT_S = 30.0
"""An agent that is not ready after this time has failed to start."""

STOP_TIMEOUT_S = 10.0
"""An agent that was asked to stop and has not is killed after this time."""

TEARDOWN_TIMEOUT_S = 60.0
"""The same for an agent that also removes what outlives it (containers, links, mounts)."""

RESTARTS_MAX = 10
RESTARTS_WITHIN_S = 60.0
"""More restarts of agents than this within the period end the node controller itself."""

assert HEALTH_TIMEOUT_S > HEALTH_PERIOD_S
