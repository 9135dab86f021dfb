"""The data path by HAProxy, where that is installed: it carries requests of endpoint routes.

    routes, members ── render ──> haproxy.cfg, routes.map ──> haproxy ── endpoint routes ──> members
                    └─ changes ─> runtime API ───────────────────┘ └── all else ──> built-in edge

Members come and go by the runtime API; only other routes or certificates make it read its
configuration again, in a new worker that takes over the sockets.  `agent.py` runs it.
"""
