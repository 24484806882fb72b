"""Variables with their types, and programs over them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from windlass.kube.cel import cost, kubernetes, standard
from windlass.kube.cel.checker import Checker
from windlass.kube.cel.errors import CompileError
from windlass.kube.cel.evaluator import Run, compile_node
from windlass.kube.cel.functions import Table
from windlass.kube.cel.syntax import parse
from windlass.kube.cel.types import Type, agrees

PER_CALL_LIMIT = 1_000_000
"""What one expression may cost when it runs."""


@functools.cache
def _library() -> Table:
    table = standard.table()
    kubernetes.extend(table)
    return table


class Program:
    """An expression that was checked."""

    def __init__(self, source: str, environment: Environment) -> None:
        """Raises CompileError."""
        self.source = source
        tree = parse(source)
        checker = Checker(source, environment.table, environment.variables, environment.structs)
        self.result_type: Type = checker.check(tree)
        self._tree = tree
        self._step = compile_node(tree)
        self.last_cost = 0

    def estimate(self) -> int:
        """What it costs at most, by the bounds that the schemas of its variables give."""
        return cost.estimate(self._tree)

    def evaluate(self, variables: Mapping[str, Any], *, limit: int = PER_CALL_LIMIT) -> Any:
        """The value. A variable that is callable is called when it is first needed.

        Raises:
            EvaluationError, CostExceeded
        """
        run = Run(dict(variables), limit)
        try:
            return self._step(run)
        finally:
            self.last_cost = run.cost


class Environment:
    """What expressions may speak of.

    Args:
        variables: their types by name.
        structs: types that an expression may construct (`Object{…}`); None for one whose fields are not known.
        functions: more than the libraries have.
    """

    def __init__(
        self,
        variables: Mapping[str, Type],
        *,
        structs: Mapping[str, Type | None] | None = None,
        functions: Table | None = None,
    ) -> None:
        self.variables = dict(variables)
        self.structs = structs if structs is not None else {}
        self.table: Table = _library()
        if functions:
            self.table = {**self.table}
            for name, overloads in functions.items():
                self.table[name] = [*self.table.get(name, ()), *overloads]

    def compile(self, source: str, result: Type | None = None) -> Program:
        """A program; `result` is the type that its value must have.

        Raises:
            CompileError
        """
        program = Program(source, self)
        if result is not None and not agrees(result, program.result_type):
            raise CompileError(f"must evaluate to {result}, not {program.result_type}", source)
        return program

    def extended(self, variables: Mapping[str, Type]) -> Environment:
        """The same with more variables."""
        found = Environment({**self.variables, **variables}, structs=self.structs)
        found.table = self.table
        return found
