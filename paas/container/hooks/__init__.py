"""The steps of a container's preparation and destruction, one file each.

Order: rootfs, users, cgroup, network, firewall, process; destruction is the reverse.  The contract,
and the ports a hook may use, are in `contract.py`; how they are run in `procedure.py`.
"""
