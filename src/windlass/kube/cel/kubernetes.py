"""What Kubernetes adds: strings, lists, regular expressions, addresses, quantities, URLs, sets, numbers, optionals.

Source: https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import itertools
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from windlass.kube.api import names, quantity
from windlass.kube.cel.errors import EvaluationError
from windlass.kube.cel.functions import Table, add
from windlass.kube.cel.values import NONE, Opaque, Optional, checked, is_equal
from windlass.kube.schema import patterns

On = Callable[..., None]
_LARGEST_TEXT = 1 << 20


def extend(table: Table) -> None:
    """Add Kubernetes' libraries to a table."""

    def on(signature: str, call: Callable[..., Any], cost: Any = None) -> None:
        add(table, signature, call, cost)

    _strings(on)
    _lists(on)
    _expressions(on)
    _addresses(on)
    _quantities(on)
    _urls(on)
    _sets_and_math(on)
    _optionals(on)
    _formats(on)


def _cost(*arguments: Any) -> int:
    return sum(len(each) for each in arguments if isinstance(each, str | bytes | list))


def _strings(on: On) -> None:
    on("string.charAt(int) -> string", _char_at)
    on("string.indexOf(string) -> int", lambda a, b: a.find(b), _cost)
    on("string.indexOf(string, int) -> int", lambda a, b, i: a.find(b, _inside(a, i)), _cost)
    on("string.lastIndexOf(string) -> int", lambda a, b: a.rfind(b), _cost)
    on("string.lastIndexOf(string, int) -> int", lambda a, b, i: a.rfind(b, 0, _inside(a, i) + len(b)), _cost)
    on("string.lowerAscii() -> string", lambda a: a.translate(_LOWER), _cost)
    on("string.upperAscii() -> string", lambda a: a.translate(_UPPER), _cost)
    on("string.replace(string, string) -> string", lambda a, b, c: _short(a.replace(b, c)), _cost)
    on("string.replace(string, string, int) -> string", lambda a, b, c, n: _short(a.replace(b, c, n)), _cost)
    on("string.split(string) -> list(string)", lambda a, b: a.split(b) if b else list(a), _cost)
    on("string.split(string, int) -> list(string)", _split, _cost)
    on("string.substring(int) -> string", lambda a, i: a[_inside(a, i) :], _cost)
    on("string.substring(int, int) -> string", _substring, _cost)
    on("string.trim() -> string", lambda a: a.strip(), _cost)
    on("string.reverse() -> string", lambda a: a[::-1], _cost)
    on("list(string).join() -> string", lambda a: _short("".join(a)), _cost)
    on("list(string).join(string) -> string", lambda a, b: _short(b.join(a)), _cost)
    on("base64.encode(bytes) -> string", lambda a: base64.b64encode(a).decode(), _cost)
    on("base64.decode(string) -> bytes", _decode, _cost)
    on("jsonpatch.escapeKey(string) -> string", lambda a: a.replace("~", "~0").replace("/", "~1"), _cost)


_LOWER = {ord(c): ord(c.lower()) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_UPPER = {ord(c): ord(c.upper()) for c in "abcdefghijklmnopqrstuvwxyz"}


def _short(text: str) -> str:
    if len(text) > _LARGEST_TEXT:
        raise EvaluationError("the string is too long")
    return text


def _inside(text: str, index: int) -> int:
    if not 0 <= index <= len(text):
        raise EvaluationError(f"index out of range: {index}")
    return index


def _char_at(text: str, index: int) -> str:
    return text[_inside(text, index) :][:1]


def _substring(text: str, begin: int, end: int) -> str:
    if begin > end:
        raise EvaluationError(f"invalid substring range. start: {begin}, end: {end}")
    return text[_inside(text, begin) : _inside(text, end)]


def _split(text: str, separator: str, count: int) -> list[str]:
    if count == 0:
        return []
    if not separator:
        return list(text)
    return text.split(separator, -1 if count < 0 else count - 1)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise EvaluationError(str(error)) from None


def _lists(on: On) -> None:
    on("list(A).isSorted() -> bool", lambda a: all(x <= y for x, y in itertools.pairwise(a)), _cost)
    on("list(A).sum() -> A", _sum, _cost)
    on("list(A).min() -> A", lambda a: _extreme(a, min), _cost)
    on("list(A).max() -> A", lambda a: _extreme(a, max), _cost)
    on("list(A).indexOf(A) -> int", lambda a, b: next((i for i, x in enumerate(a) if is_equal(x, b)), -1), _cost)
    on(
        "list(A).lastIndexOf(A) -> int",
        lambda a, b: next((i for i in range(len(a) - 1, -1, -1) if is_equal(a[i], b)), -1),
        _cost,
    )
    on("list(A).distinct() -> list(A)", _distinct, lambda a: len(a) ** 2)
    on("list(A).reverse() -> list(A)", lambda a: a[::-1], _cost)
    on("list(A).sort() -> list(A)", _sorted, _cost)
    on("list(A).slice(int, int) -> list(A)", _slice, _cost)
    on("list(dyn).flatten() -> list(dyn)", lambda a: _flatten(a, 1), _cost)
    on("list(dyn).flatten(int) -> list(dyn)", _flatten, _cost)
    on("lists.range(int) -> list(int)", _range, lambda n: n)
    on("list(A).first() -> optional(A)", lambda a: Optional(True, a[0]) if a else NONE)
    on("list(A).last() -> optional(A)", lambda a: Optional(True, a[-1]) if a else NONE)


def _sum(items: list[Any]) -> Any:
    if not items:
        return 0
    total = items[0]
    for item in items[1:]:
        total = total + item
    return checked(total) if isinstance(total, int) else total


def _extreme(items: list[Any], choose: Callable[[list[Any]], Any]) -> Any:
    if not items:
        raise EvaluationError("min and max of an empty list are not defined")
    return choose(items)


def _distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not any(is_equal(item, each) for each in found):
            found.append(item)
    return found


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:
        raise EvaluationError("the list's items cannot be sorted") from None


def _slice(items: list[Any], begin: int, end: int) -> list[Any]:
    if not 0 <= begin <= end <= len(items):
        raise EvaluationError(f"cannot slice({begin}, {end}), list is length {len(items)}")
    return items[begin:end]


def _flatten(items: list[Any], depth: int) -> list[Any]:
    found: list[Any] = []
    for item in items:
        found += _flatten(item, depth - 1) if isinstance(item, list) and depth > 0 else [item]
    return found


def _range(count: int) -> list[int]:
    if count > 100_000:
        raise EvaluationError("the range is too large")
    return list(range(count))


def _expressions(on: On) -> None:
    on("string.find(string) -> string", _find, _cost)
    on("string.findAll(string) -> list(string)", lambda a, b: _find_all(a, b, -1), _cost)
    on("string.findAll(string, int) -> list(string)", _find_all, _cost)


def _compiled(pattern: str) -> Any:
    try:
        return patterns.compile_pattern(pattern)
    except patterns.BadPattern as error:
        raise EvaluationError(str(error)) from None


def _find(text: str, pattern: str) -> str:
    match = _compiled(pattern).search(text)
    return "" if match is None else str(match.group())


def _find_all(text: str, pattern: str, limit: int) -> list[str]:
    found = [str(match.group()) for match in _compiled(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


_IP, _CIDR, _QUANTITY, _URL, _FORMAT = (
    "net.IP",
    "net.CIDR",
    "kubernetes.Quantity",
    "kubernetes.URL",
    "kubernetes.NamedFormat",
)


def _address(text: str) -> Opaque:
    try:
        if "%" in text:
            raise ValueError(text)
        return Opaque(_IP, ipaddress.ip_address(text))
    except ValueError:
        raise EvaluationError(f"IP Address {text!r} parse error during conversion from string") from None


def _network(text: str) -> Opaque:
    try:
        if "/" not in text:
            raise ValueError(text)
        return Opaque(_CIDR, ipaddress.ip_interface(text))
    except ValueError:
        raise EvaluationError(f"network address parse error during conversion from string: {text!r}") from None


def _is(call: Callable[[str], Any]) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        try:
            call(text)
        except EvaluationError:
            return False
        return True

    return test


def _addresses(on: On) -> None:
    on(f"ip(string) -> {_IP}", _address)
    on("isIP(string) -> bool", _is(_address))
    on("ip.isCanonical(string) -> bool", lambda a: str(_address(a).value) == a)
    on(f"string({_IP}) -> string", lambda a: str(a.value))
    on(f"{_IP}.family() -> int", lambda a: a.value.version)
    for name, attribute in (
        ("isUnspecified", "is_unspecified"),
        ("isLoopback", "is_loopback"),
        ("isLinkLocalMulticast", "is_multicast"),
        ("isLinkLocalUnicast", "is_link_local"),
    ):
        on(f"{_IP}.{name}() -> bool", lambda a, attribute=attribute: bool(getattr(a.value, attribute)))
    on(
        f"{_IP}.isGlobalUnicast() -> bool",
        lambda a: not (a.value.is_multicast or a.value.is_loopback or a.value.is_unspecified or a.value.is_link_local),
    )
    on(f"cidr(string) -> {_CIDR}", _network)
    on("isCIDR(string) -> bool", _is(_network))
    on(f"string({_CIDR}) -> string", lambda a: str(a.value))
    on(f"{_CIDR}.ip() -> {_IP}", lambda a: Opaque(_IP, a.value.ip))
    on(f"{_CIDR}.masked() -> {_CIDR}", lambda a: Opaque(_CIDR, ipaddress.ip_interface(a.value.network.with_prefixlen)))
    on(f"{_CIDR}.prefixLength() -> int", lambda a: a.value.network.prefixlen)
    on(f"{_CIDR}.containsIP({_IP}) -> bool", lambda a, b: b.value in a.value.network)
    on(f"{_CIDR}.containsIP(string) -> bool", lambda a, b: _address(b).value in a.value.network)
    on(f"{_CIDR}.containsCIDR({_CIDR}) -> bool", _contains_network)
    on(f"{_CIDR}.containsCIDR(string) -> bool", lambda a, b: _contains_network(a, _network(b)))


def _contains_network(left: Opaque, right: Opaque) -> bool:
    if left.value.version != right.value.version:
        return False
    return bool(right.value.network.subnet_of(left.value.network))


def _quantity(text: str) -> Opaque:
    try:
        return Opaque(_QUANTITY, quantity.parse(text))
    except quantity.BadQuantity as error:
        raise EvaluationError(str(error)) from None


def _quantities(on: On) -> None:
    on(f"quantity(string) -> {_QUANTITY}", _quantity)
    on("isQuantity(string) -> bool", _is(_quantity))
    on(f"{_QUANTITY}.sign() -> int", lambda a: (a.value.nano > 0) - (a.value.nano < 0))
    on(f"{_QUANTITY}.isInteger() -> bool", lambda a: a.value.nano % 10**9 == 0)
    on(f"{_QUANTITY}.asInteger() -> int", _as_integer)
    on(f"{_QUANTITY}.asApproximateFloat() -> double", lambda a: a.value.nano / 10**9)
    on(f"{_QUANTITY}.add({_QUANTITY}) -> {_QUANTITY}", lambda a, b: Opaque(_QUANTITY, a.value.plus(b.value)))
    on(f"{_QUANTITY}.add(int) -> {_QUANTITY}", lambda a, b: Opaque(_QUANTITY, a.value.plus(quantity.parse(b))))
    on(f"{_QUANTITY}.sub({_QUANTITY}) -> {_QUANTITY}", lambda a, b: Opaque(_QUANTITY, a.value.minus(b.value)))
    on(f"{_QUANTITY}.sub(int) -> {_QUANTITY}", lambda a, b: Opaque(_QUANTITY, a.value.minus(quantity.parse(b))))
    on(f"{_QUANTITY}.isLessThan({_QUANTITY}) -> bool", lambda a, b: a.value.nano < b.value.nano)
    on(f"{_QUANTITY}.isGreaterThan({_QUANTITY}) -> bool", lambda a, b: a.value.nano > b.value.nano)
    on(
        f"{_QUANTITY}.compareTo({_QUANTITY}) -> int",
        lambda a, b: (a.value.nano > b.value.nano) - (a.value.nano < b.value.nano),
    )


def _as_integer(amount: Opaque) -> int:
    if amount.value.nano % 10**9:
        raise EvaluationError("cannot convert value to integer")
    return checked(amount.value.value)


def _url(text: str) -> Opaque:
    try:
        found = urlsplit(text)
        if not found.scheme and not text.startswith("/"):
            raise ValueError(text)
        found.port  # noqa: B018  # raises where it is none
    except ValueError as error:
        raise EvaluationError(f"URL parse error during conversion from string: {error}") from None
    return Opaque(_URL, found)


def _host(url: Opaque) -> str:
    return str(url.value.netloc.rpartition("@")[2])


def _urls(on: On) -> None:
    on(f"url(string) -> {_URL}", _url, _cost)
    on("isURL(string) -> bool", _is(_url), _cost)
    on(f"{_URL}.getScheme() -> string", lambda a: a.value.scheme)
    on(f"{_URL}.getHost() -> string", _host)
    on(f"{_URL}.getHostname() -> string", lambda a: a.value.hostname or "")
    on(f"{_URL}.getPort() -> string", lambda a: str(a.value.port) if a.value.port is not None else "")
    on(f"{_URL}.getEscapedPath() -> string", lambda a: a.value.path)
    on(f"{_URL}.getQuery() -> map(string, list(string))", lambda a: parse_qs(a.value.query, keep_blank_values=True))


def _sets_and_math(on: On) -> None:
    def has_all(a: list[Any], b: list[Any]) -> bool:
        return all(any(is_equal(x, y) for y in a) for x in b)

    def product(a: list[Any], b: list[Any]) -> int:
        return len(a) * len(b)

    on("sets.contains(list(A), list(A)) -> bool", has_all, product)
    on("sets.equivalent(list(A), list(A)) -> bool", lambda a, b: has_all(a, b) and has_all(b, a), product)
    on("sets.intersects(list(A), list(A)) -> bool", lambda a, b: any(is_equal(x, y) for x in a for y in b), product)
    for name, choose in (("greatest", max), ("least", min)):
        for kind in ("int", "uint", "double"):
            on(f"math.{name}({kind}) -> {kind}", lambda a: a)
            on(f"math.{name}({kind}, {kind}) -> {kind}", choose)
            on(f"math.{name}({kind}, {kind}, {kind}) -> {kind}", choose)
            on(f"math.{name}(list({kind})) -> {kind}", lambda a, choose=choose: _extreme(a, choose), _cost)
    on("math.abs(int) -> int", lambda a: checked(abs(a)))
    on("math.abs(double) -> double", abs)
    on("math.ceil(double) -> double", lambda a: float(math.ceil(a)))
    on("math.floor(double) -> double", lambda a: float(math.floor(a)))
    on("math.round(double) -> double", lambda a: float(math.floor(abs(a) + 0.5)) * (1 if a >= 0 else -1))
    on("math.trunc(double) -> double", lambda a: float(math.trunc(a)))
    on("math.sign(int) -> int", lambda a: (a > 0) - (a < 0))
    on("math.sqrt(double) -> double", lambda a: math.sqrt(a) if a >= 0 else math.nan)
    on("math.isNaN(double) -> bool", math.isnan)
    on("math.isInf(double) -> bool", math.isinf)


def _optionals(on: On) -> None:
    on("optional.of(A) -> optional(A)", lambda a: Optional(True, a))
    on("optional.none() -> optional(dyn)", lambda: NONE)
    on(
        "optional.ofNonZeroValue(A) -> optional(A)",
        lambda a: Optional(True, a) if a not in ("", 0, False, None, [], {}) else NONE,
    )
    on("optional(A).hasValue() -> bool", lambda a: a.present)
    on("optional(A).value() -> A", _value)
    on("optional(A).orValue(A) -> A", lambda a, b: a.value if a.present else b)
    on("optional(A).or(optional(A)) -> optional(A)", lambda a, b: a if a.present else b)


def _value(found: Optional) -> Any:
    if not found.present:
        raise EvaluationError("optional.none() dereference")
    return found.value


_FORMATS: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": names.dns1123_label,
    "dns1123Subdomain": names.dns1123_subdomain,
    "dns1035Label": names.dns1035_label,
    "qualifiedName": names.qualified_name,
    "labelValue": names.label_value,
    "dns1123LabelPrefix": lambda text: names.prefixed(names.dns1123_label, text, prefix=True),
    "dns1123SubdomainPrefix": lambda text: names.prefixed(names.dns1123_subdomain, text, prefix=True),
    "dns1035LabelPrefix": lambda text: names.prefixed(names.dns1035_label, text, prefix=True),
}


def _formats(on: On) -> None:
    for name in _FORMATS:
        on(f"format.{name}() -> {_FORMAT}", lambda name=name: Opaque(_FORMAT, name))
    on(
        f"format.named(string) -> optional({_FORMAT})",
        lambda a: Optional(True, Opaque(_FORMAT, a)) if a in _FORMATS else NONE,
    )
    on(f"{_FORMAT}.validate(string) -> optional(list(string))", _validate_format, _cost)


def _validate_format(form: Opaque, text: str) -> Optional:
    problems = _FORMATS[form.value](text)
    return Optional(True, problems) if problems else NONE
