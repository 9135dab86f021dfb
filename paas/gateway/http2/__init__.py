"""HTTP/2 towards browsers; members are spoken to in HTTP/1.1."""
