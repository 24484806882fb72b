"""The kubelet's own API: what an API server asks of the node, and what people scrape.

kubelet      paths to what answers them; the API server of the same process comes in here
https        the same over TLS on port 10250, for others          access     who may (delegated to the API server)
pods         the pod and container that a request names           logs       what containers have printed
commands     exec, attach, run                                    forward    ports of a pod
usage        measures the containers' use, now and then           summary    /stats/summary
metrics      /metrics, /metrics/resource, /metrics/cadvisor       hostlogs   files of the host's /var/log

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""
