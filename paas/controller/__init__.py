"""Registers types, creates, watches, restarts and ends components (platform §4.6.3, §4.7.3).

Called through the component API; calls the container controller and, through the hub, harnesses.
"""
