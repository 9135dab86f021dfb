"""The node controller: starts, watches and restarts the agents of a machine (platform document §4.6.5)."""
