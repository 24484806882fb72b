"""Packets from a node's containers to another node's: each node has a part of one range, and a way to every other part.

peers       the nodes: name, address, part of the range
underlay    the link that has a node's own address, and what fits into its packets
backend     what a way is made of, and the backends by name
vxlan       in UDP packets from node to node, over any network
host_gw     routes by way of the other nodes, which share a network

Addresses are never translated on these ways: a container is seen by the address that it sees itself.
"""

VXLAN, HOST_GW, NONE = "vxlan", "host-gw", "none"
BACKENDS = (VXLAN, HOST_GW, NONE)
