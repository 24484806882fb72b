"""The Common Expression Language, as Kubernetes uses it: custom resources' rules, admission policies, conditions.

    source ─ syntax ─▶ tree ─ checker ─▶ typed tree ─ evaluator ─▶ closures ─▶ value
                                 ▲                        ▲
                               types (of schemas)      functions: the standard library and Kubernetes'

Types are checked before anything runs, and what runs is bounded: every step costs, and a program has a budget.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md and
https://kubernetes.io/docs/reference/using-api/cel/
"""

from windlass.kube.cel.environment import Environment, Program
from windlass.kube.cel.errors import CompileError, CostExceeded, EvaluationError

__all__ = ["CompileError", "CostExceeded", "Environment", "EvaluationError", "Program"]
