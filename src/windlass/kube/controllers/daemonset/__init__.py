"""daemonset-controller: a pod on every node that takes one.

    placement    which nodes take a pod, and how a pod is bound to its node
    controller   pods that are missing or too many, updates, status

Source: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/
"""
