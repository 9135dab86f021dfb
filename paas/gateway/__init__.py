"""The HTTP gateway: how the world outside reaches components (platform document §4.6.7, "gateway").

    operators, applications ── gateway.set_route ──> routes, in the cluster's log
    gateways (components)   ── gateway.follow ─────> routes and members, as they change
                            <── path opened, operation allowed: a route is a grant

The platform's side, in every hub, is `messages`, `limits`, `rules`, `state`, `table`, `following`,
`grants`, `agent` and `policy`.  The rest carries requests: the data path, and, in `component`, the
program that a gateway runs.
"""
