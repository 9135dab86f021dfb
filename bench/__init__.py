"""Measurements of the platform: `python -m bench`, as `make bench` does (docs/benchmarks.md)."""
