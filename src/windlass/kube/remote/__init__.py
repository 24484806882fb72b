"""The API of a server somewhere else: what a node agent, a service proxy or a command line holds in its own process.

servers      the cluster's servers, of which one is in use
transport    requests over HTTPS, their failures, new credentials without a restart
resources    where a resource is served (discovery)
client       `RemoteClient`: get, list, create, update, patch, delete, as `windlass.kube.client` has them
reflector    one list and the watch that keeps it current
cache        `RemoteCache`: a `Reader` over reflectors
references   single objects that pods name, followed as long as a pod names them
"""
