"""Who may open the end of a path on another node: that node's hub asks this one, nobody else."""

from paas.rpc.dispatch import Rule

POLICY = {"network.open": Rule(frozenset({"hub"}))}
