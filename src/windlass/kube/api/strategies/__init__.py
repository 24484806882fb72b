"""What is particular to each built-in kind: defaults, rules, what may change.

    pods          pod_defaults, pod_rules: shared by everything that has a pod template
    workloads     deployments, replica sets, stateful sets, daemon sets, jobs, cron jobs
    core          namespaces, nodes, secrets, config maps, events, quotas …
    services      services, endpoints
    storage       volumes, claims, classes
    policy        rbac, budgets, priority classes, certificates
    extension     webhooks, admission policies, custom resource definitions, API services

Source: https://kubernetes.io/docs/reference/kubernetes-api/ (the messages and defaults are facts of upstream's API)
"""
