"""Actors, supervisors, life-cycles, identifiers, errors, limits, ports: what all stands on.

Nothing here knows about messages, networks or any sub-system, or imports another package of ours.
"""
