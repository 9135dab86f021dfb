"""The gateway as a component: the data path with routes and members that the platform tells.

main     the program: configuration, listeners, ready, orderly end
channel  the way to the platform, through the harness
book     what was told: routes, members, departures; pure
live     backends of the data path, over the two
join     HAProxy before it, certificates by ACME
group    what gateways of a group tell each other about certificates
records  answers to `dns-01` by the cluster's name service
bundle   makes the component's bundle from the installed packages
"""
