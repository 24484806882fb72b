"""Schemas of Kubernetes objects: one node type for built-in kinds and for custom resources."""

from windlass.kube.schema.node import ANY, Schema

__all__ = ["ANY", "Schema"]
