"""The container controller: isolated environments on one node (platform document §4.6.4).

Called by the component controller (create, kill, destroy) and the node controller (start, stop).
It decides nothing about where or whether a component runs; it makes the environment, starts the
harness in it, reports the kernel's facts when it ends, and leaves nothing behind.
"""
