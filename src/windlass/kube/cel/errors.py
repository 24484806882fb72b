"""What goes wrong with an expression: before it runs, and while it does."""

from __future__ import annotations


class CompileError(ValueError):
    """The expression is malformed or does not fit its types."""

    def __init__(self, message: str, source: str = "", position: int = 0) -> None:
        self.reason = message
        line = source.count("\n", 0, position) + 1
        begin = source.rfind("\n", 0, position) + 1
        text = source[begin:].partition("\n")[0]
        column = position - begin
        super().__init__(f"ERROR: <input>:{line}:{column + 1}: {message}\n | {text}\n | {'.' * column}^")


class EvaluationError(Exception):
    """The expression has no value for these variables."""


class CostExceeded(EvaluationError):  # named for what is the matter
    """The expression costs more than it may."""
