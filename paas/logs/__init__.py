"""Keeps the log records of components, bounded: followed, queried (platform document §4.6.7)."""
