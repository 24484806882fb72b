"""`windlass agent`: a node of a cluster whose server is somewhere else.

    token ─▶ authority, checked against the token's hash ─▶ certificates, asked for and renewed ─▶ clients ─▶ node

arguments       the flags, k3s's names where it has them
authority       the cluster's authority, before anything else is sent
certificates    this node's certificates on disk, their requests, their renewal
configuration   what the cluster tells its nodes: networks, name server, domain
overlay         the ways to other nodes, which follow from Nodes
assembly        all of it put together
main            signals and exit status
"""
