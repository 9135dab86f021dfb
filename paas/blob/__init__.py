"""Attachments that are too large for a message: kept for a while, read in pieces, on any node.

Source: component API, "Limits" (4 MiB a frame); platform document §4.7.2, attachments of calls.
"""
