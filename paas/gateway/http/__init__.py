"""HTTP as the gateway reads and writes it: heads, bodies, forwarded headers, refusals."""
