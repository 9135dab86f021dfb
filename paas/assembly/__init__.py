"""Which parts make up each process: the only place where real ports meet the sub-systems.

One file a kind of process; `process` is the shell they share.  Everything may be imported here, and
nothing imports this but `paas.__main__`.
"""
