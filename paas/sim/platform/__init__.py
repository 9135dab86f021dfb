"""The whole platform in one process: hubs, containers, components on virtual time, from a seed."""
