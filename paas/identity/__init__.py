"""Names, certificates, tokens: who an agent is and how it proves it.  Nothing here waits or dials.

Source: platform document §4.9.4 (what a certificate says), §4.9.6 (tokens, life times); RFC 5280
(certificates), RFC 2986 (requests), RFC 8446 (TLS 1.3), the SPIFFE ID and X.509-SVID documents.
"""
