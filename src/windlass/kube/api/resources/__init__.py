"""The built-in resources: one row each in declarations.py, with what is particular to a kind from strategies/."""

from windlass.kube.api.resources.declarations import builtin

__all__ = ["builtin"]
