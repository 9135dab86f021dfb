"""Persistent volumes: files of a component that outlive it, on one node at a time.

Which node holds them, and when they may move, is in the cluster state (state.py); images and mounts
are the container controller's.  Document: docs/internals/containers/volumes.md.
"""
