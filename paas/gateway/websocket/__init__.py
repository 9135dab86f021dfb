"""WebSockets through the gateway: relayed to members, or as messages to operations."""
