"""Bundles: directories as signed, content-addressed archives; only what was verified is unpacked.

A bundle is everything one component type needs in its file system (platform document §4.3.1,
"packaging").  `build` makes one, `signature` says who did, `store` keeps it by its digest,
`unpacked` lays it out for containers, `state` is what the cluster knows about it, `manifest` is
what its `component.toml` declares.  Bytes that come from outside pass `zstd_frame`, `tar_format`
and `extract`, which accept exactly the archives that `archive` writes and nothing else.
"""
