"""Routes messages between components, keeps groups and watches (platform document §4.6.1, §4.7.2).

Harnesses, operators and the controller call it; it calls harnesses.
"""
