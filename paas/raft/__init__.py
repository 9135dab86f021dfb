"""The replicated log: typed commands, one state machine, a durable journal; Raft by pysyncobj.

Others use `log.ReplicatedLog`, `machine.Machine` and the decorator `command.command`.  How it
works, and why the library may not be used bare: docs/internals/raft.md; architecture §5.
"""
