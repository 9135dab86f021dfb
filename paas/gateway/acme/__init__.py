"""Certificates for gateways from an authority that speaks ACME (RFC 8555).

    agent (what is due, who orders, where) ── client (account, order, challenges) ──> authority
             │                                   │
         renewal, store                   jws, documents, problems

Challenges are answered by the gateway itself (`http-01`) or by a record in the DNS (`dns-01`).
"""
