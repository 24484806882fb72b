"""Patches: JSON patch, merge patch, strategic merge patch.

Server-side apply is a kind of patch, too, with a room of its own: `windlass.kube.api.apply`.
"""
