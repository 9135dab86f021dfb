"""Random simulation of the consensus layer: the real replicas, thousands of seeds, all faults."""
