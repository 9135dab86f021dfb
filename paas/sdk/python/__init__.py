"""The chapters of the Python SDK, as modules that can be read, typed and tested one by one.

`paas.sdk.joined` makes the one file `paas_component.py` of them, which is what bundles carry:
`wire` (bytes), `values` (what programs hold), `api` (what a component can ask), `core` (what it is
asked), and the three front ends `threads`, `aio` and `nursery`.
"""
