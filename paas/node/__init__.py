"""The node controller: starts, watches, restarts the agents of a machine (platform §4.6.5)."""
