"""The cluster's name server: services and pods by name, on every node, inside the node's own process.

    zone        names of the cluster -> records
    forwarder   everything else: the host's name servers, with a cache; the targets of ExternalName services
    service     the sockets, and how a node starts and stops all that

Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md (schema version 1.1.0)
"""
