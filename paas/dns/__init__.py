"""The name service: the cluster's zone from the cluster state; names elsewhere by asking others."""
