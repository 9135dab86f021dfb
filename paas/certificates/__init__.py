"""The certificate manager of a node: its own authority, and the cluster's where that key lives.

A parent that is about to start an agent asks for a spawn token; the agent trades the token and a
request for a certificate, over a UNIX socket on which the kernel says who asks; agents renew with
the certificate they hold.  What signs them is the node's authority, which the cluster's authority
certified: at the first start of the node that begins a cluster, when a machine joins (`client.join`
there, `server` and `joining` on the hub that is asked, `join_state` in the replicated log), and at
half of its life, through the hubs.

Called by the node controller (tokens), by every agent (`client.obtain`, `client.renew`) and by the
hub (authorities of other nodes); calls nobody.  Source: platform document §4.9.4 and §4.9.6.
"""
