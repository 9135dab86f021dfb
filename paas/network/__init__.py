"""Networks of containers: which node has which addresses, ways between nodes, paths across them."""
