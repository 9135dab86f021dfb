"""Outbound HTTP: what components ask the world for, with bounds on everything that it answers.

    component ── fetch ──> component.py ── Fetcher (client.py) ── transport.py ──> the world
                                 │
            urls  addresses  redirects  retrying  throttle  credentials  decoding  http1     (pure)

Others import `paas.fetcher.client`; the component is `python -m paas.fetcher`.
"""
