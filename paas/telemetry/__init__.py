"""Emitting events and figures.  Storing and querying them is for `logs` and `monitor`."""
