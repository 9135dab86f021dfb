"""The init process of every container: speaks for one component (platform document §4.6.2).

Started by the container controller's template process; talks to its component and to its hub.
"""
