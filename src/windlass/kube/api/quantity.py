"""Quantities: numbers with a suffix, exactly, in their canonical form.

    500m   0.5   1Gi   1e3   128974848   100M

Binary suffixes (Ki, Mi, Gi, Ti, Pi, Ei), decimal ones (n, u, m, "", k, M, G, T, P, E) and exponents. A quantity keeps
the family in which it was written. Values are exact to a billionth, rounded up beyond that.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import Any, NamedTuple

_PATTERN = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?", re.ASCII)
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_LONGEST = 100
_LARGEST_EXPONENT = 308
_NANO = 10**9
_LIMIT = 2**63 - 1

MUST_MATCH = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


class BadQuantity(ValueError):
    """A text that is no quantity; the message is upstream's."""


class Quantity(NamedTuple):
    """An amount.

    Attributes:
        nano: the value in billionths.
        family: "binary", "decimal" or "exponent": how it is written.
    """

    nano: int
    family: str = "decimal"

    @property
    def value(self) -> int:
        """In whole units, rounded up."""
        return -(-self.nano // _NANO)

    @property
    def milli(self) -> int:
        """In thousandths, rounded up."""
        return -(-self.nano // 10**6)

    def __str__(self) -> str:
        return _format(self.nano, self.family)

    def plus(self, other: Quantity) -> Quantity:
        """The sum, in this one's family (or in the other's where this is zero)."""
        return Quantity(self.nano + other.nano, self.family if self.nano else other.family)

    def minus(self, other: Quantity) -> Quantity:
        """The difference."""
        return Quantity(self.nano - other.nano, self.family if self.nano else other.family)


ZERO = Quantity(0)


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Quantity:
    match = _PATTERN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise BadQuantity(MUST_MATCH)
    sign, digits, suffix = match.groups()
    suffix = suffix or ""
    number = Fraction(digits.rstrip(".") if digits.endswith(".") else digits)
    if suffix in _BINARY:
        family, scaled = "binary", number * (1 << _BINARY[suffix])
    elif suffix[:1] in ("e", "E") and len(suffix) > 1:
        exponent = int(suffix[1:])
        if abs(exponent) > _LARGEST_EXPONENT:
            raise BadQuantity(MUST_MATCH)
        family, scaled = "exponent", number * Fraction(10) ** exponent
    else:
        family, scaled = "decimal", number * Fraction(10) ** _DECIMAL[suffix]
    nano = -(-(scaled * _NANO).numerator // (scaled * _NANO).denominator)
    nano = min(nano, _LIMIT * _NANO)
    if family == "binary" and nano % _NANO:
        family = "decimal"  # no binary suffix is below one
    return Quantity(-nano if sign == "-" else nano, family)


def parse(value: Any) -> Quantity:
    """A quantity as objects have it: a text, or a number.

    Raises:
        BadQuantity
    """
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadQuantity(MUST_MATCH)
    return _parse(repr(value) if isinstance(value, float) else str(value))


def canonical(value: Any) -> str:
    """The text that stands for a quantity in stored objects. Raises BadQuantity."""
    return str(parse(value))


def _format(nano: int, family: str) -> str:
    if nano == 0:
        return "0"
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    if family == "binary" and nano % _NANO == 0 and nano // _NANO >= 1024:
        whole = nano // _NANO
        shift = 0
        for bits in _BINARY.values():
            if whole % (1 << bits) == 0:
                shift = bits
        suffix = next((name for name, bits in _BINARY.items() if bits == shift), "")
        return f"{sign}{whole >> shift}{suffix}"
    exponent = -9
    while nano % 1000 == 0 and exponent < 18:
        nano //= 1000
        exponent += 3
    if family == "exponent":
        return f"{sign}{nano}e{exponent}" if exponent else f"{sign}{nano}"
    return f"{sign}{nano}{_SUFFIXES[exponent]}"
