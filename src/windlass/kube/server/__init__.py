"""`windlass server`: a cluster's API server with its controllers, in one process.

arguments   the flags, k3s's names where it has them
assembly    store, PKI, API server, controllers, put together
bootstrap   what stands in a cluster from its first moment
main        signals and exit status
"""
