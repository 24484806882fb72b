"""The service proxy of a node: what is sent to a service arrives at one of its endpoints.

    model     a service and its EndpointSlices -> ports, and the endpoints that each leads to from here
    rules     a port -> nftables' elements and chains
    table     what stands in the kernel, and the smallest transaction that makes it right
    proxier   follows the API

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/
"""
