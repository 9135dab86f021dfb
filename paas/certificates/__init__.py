"""The certificate manager of a node, and the cluster's authority where its key lives.

A parent that is about to start an agent asks for a spawn token; the agent trades the token and a
request for a certificate, over a UNIX socket on which the kernel says who asks; agents renew with
the certificate they hold.  The authority is made at the first start and stays.

Called by the node controller (tokens) and by every agent (`client.obtain`, `client.renew`); calls
nobody.  Source: platform document §4.9.4 and §4.9.6.
"""
