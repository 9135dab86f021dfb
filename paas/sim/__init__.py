"""The simulated world: the ports on virtual time and in-memory disks, from one seed."""
