"""Persistent volumes and the claims on them.

    matching     which volume suits a claim
    binder       persistentvolume-binder: binds, provisions directories of nodes, reclaims
    protection   pvc-protection- and pv-protection-controller: nothing goes that is in use
    ephemeral    ephemeral-volume-controller: claims that pods bring along

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/
"""
