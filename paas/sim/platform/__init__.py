"""The whole platform in one process: hubs, containers and components on virtual time, from one seed."""
