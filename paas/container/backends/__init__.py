"""Back ends: who makes a container's namespaces, and who watches over them.

`namespaces` (the default) makes them itself; `lxc` leaves them to LXC.  See the page "Back ends" of
the internals.
"""
