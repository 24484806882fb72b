"""Subresources that are more than a part of their object: one file each.

scale      replicas of anything that has them         binding    a pod gets its node
eviction   a pod goes, if its budgets allow           approval   a certificate request is decided
finalize   a namespace's finalizers                   token      a service account's token
"""
