"""JSON-RPC 2.0 between everybody: components, harnesses, hubs, agents, operators (component API).

The protocol core (`envelope`, `connection`, `pending`) is sans-IO; `link` and `peer` put it on
sockets; `server` accepts connections; `dispatch` leads requests to handlers through policy checks.
"""
