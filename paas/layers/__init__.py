"""Base layers: container images that the cluster keeps, and that containers have as their root.

`state` is what the cluster knows about them, `agent` the hub's face and the copies between nodes,
`trees` and `unpack` what a node makes of them.  Reading and writing other people's images is
`paas.oci`.
"""
