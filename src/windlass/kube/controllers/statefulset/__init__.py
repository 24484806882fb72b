"""statefulset-controller: pods with names, an order and storage of their own.

    identity     the pod of an ordinal, and its claims
    controller   the order in which pods come, go and change; status

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""
