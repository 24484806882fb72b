"""What names, labels and annotations may be, in the words of apimachinery.

Every rule is a function from a text to what is wrong with it, an empty list where nothing is.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and
.../labels/#syntax-and-character-set
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from windlass.kube.api.status import FieldError, invalid_value, too_long

Rule = Callable[[str], list[str]]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = rf"({_QUALIFIED})?"
_C_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_HEADER = r"[-A-Za-z0-9]+"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of an object together."""


def _matcher(pattern: str) -> Callable[[str], re.Match[str] | None]:
    # These patterns have no nested repetition over the same characters: matching is linear.
    return re.compile(pattern, re.ASCII).fullmatch


_label = _matcher(_LABEL)
_label_1035 = _matcher(_LABEL_1035)
_subdomain = _matcher(_SUBDOMAIN)
_qualified = _matcher(_QUALIFIED)
_label_value = _matcher(_LABEL_VALUE)
_c_identifier = _matcher(_C_IDENTIFIER)
_header = _matcher(_HEADER)
_config_key = _matcher(_CONFIG_KEY)


def _longer(limit: int) -> str:
    return f"must be no more than {limit} characters"


def _like(text: str, pattern: str, *examples: str) -> str:
    """An explanation with examples and the pattern."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_TEXT = _like(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_TEXT = _like(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)
_LABEL_1035_TEXT = _like(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _LABEL_1035,
    "my-name",
    "abc-123",
)
_QUALIFIED_TEXT = _like(
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character",
    _QUALIFIED,
    "MyName",
    "my.name",
    "123-abc",
)
_LABEL_VALUE_TEXT = _like(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character",
    _LABEL_VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_C_IDENTIFIER_TEXT = _like(
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    "or '_'",
    _C_IDENTIFIER,
    "my_name",
    "MY_NAME",
    "MyName",
)
_ENVIRONMENT_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_CONFIG_KEY_TEXT = _like(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_HEADER_TEXT = _like("a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER, "X-Header-Name")


def dns1123_label(text: str) -> list[str]:
    """RFC 1123 label: at most 63 lower-case letters, digits and inner dashes."""
    found = [_longer(63)] if len(text) > 63 else []
    if not _label(text):
        found.append("must not contain dots" if "." in text and _subdomain(text) else _LABEL_TEXT)
    return found


def dns1123_subdomain(text: str) -> list[str]:
    """RFC 1123 subdomain: labels with dots between, at most 253 characters."""
    found = [_longer(253)] if len(text) > 253 else []
    if not _subdomain(text):
        found.append(_SUBDOMAIN_TEXT)
    return found


def dns1035_label(text: str) -> list[str]:
    """RFC 1035 label: as RFC 1123's, and it begins with a letter."""
    found = [_longer(63)] if len(text) > 63 else []
    if not _label_1035(text):
        found.append(_LABEL_1035_TEXT)
    return found


def wildcard_subdomain(text: str) -> list[str]:
    """A subdomain whose first label is `*`."""
    found = [_longer(253)] if len(text) > 253 else []
    if not (text.startswith("*.") and _subdomain(text[2:])):
        found.append(
            _like(
                "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must "
                "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
                rf"\*\.{_SUBDOMAIN}",
                "*.example.com",
            )
        )
    return found


def qualified_name(text: str) -> list[str]:
    """An optional prefix (a subdomain) and a slash, and a name of at most 63 characters: keys of labels."""
    parts = text.split("/")
    if len(parts) > 2:
        return [
            "a qualified name "
            + _like(
                "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                "alphanumeric character",
                _QUALIFIED,
                "MyName",
                "my.name",
                "123-abc",
            )
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    found: list[str] = []
    if len(parts) == 2:
        if not parts[0]:
            found.append("prefix part must be non-empty")
        else:
            found += [f"prefix part {problem}" for problem in dns1123_subdomain(parts[0])]
    name = parts[-1]
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append("name part must be no more than 63 characters")
    if not _qualified(name):
        found.append(_QUALIFIED_TEXT)
    return found


def label_value(text: str) -> list[str]:
    """At most 63 characters, empty or as a qualified name's name."""
    found = [_longer(63)] if len(text) > 63 else []
    if not _label_value(text):
        found.append(_LABEL_VALUE_TEXT)
    return found


def c_identifier(text: str) -> list[str]:
    """A C identifier."""
    return [] if _c_identifier(text) else [_C_IDENTIFIER_TEXT]


def environment_variable(text: str) -> list[str]:
    """A name of an environment variable: printable ASCII without `=`."""
    return [] if text and all(" " <= char <= "~" and char != "=" for char in text) else [_ENVIRONMENT_TEXT]


def config_key(text: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    found = [_longer(253)] if len(text) > 253 else []
    if not _config_key(text):
        found.append(_CONFIG_KEY_TEXT)
    if text == ".":
        found.append("must not be '.'")
    elif text == "..":
        found.append("must not be '..'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found


def header_name(text: str) -> list[str]:
    """The name of an HTTP header."""
    return [] if _header(text) else [_HEADER_TEXT]


def path_segment(text: str) -> list[str]:
    """What may stand between two slashes of a URL, `/` and `%` excluded: names of RBAC objects."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{char}'" for char in ("/", "%") if char in text]


def port_name(text: str) -> list[str]:
    """An IANA service name: a container port's name (RFC 6335, section 5.1)."""
    found = ["must be no more than 15 characters"] if len(text) > 15 else []
    if not re.fullmatch(r"[-a-z0-9]+", text, re.ASCII):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text[:1] == "-" or text[-1:] == "-":
        found.append("must not begin or end with a hyphen")
    return found


def port_number(number: int) -> list[str]:
    """A port."""
    return [] if 0 < number < 65536 else ["must be between 1 and 65535, inclusive"]


def relative_path(text: str) -> list[str]:
    """A path that neither begins at the root nor climbs."""
    found = ["must be a relative path"] if text.startswith("/") else []
    if ".." in text.split("/"):
        found.append("must not contain '..'")
    return found


def prefixed(rule: Rule, name: str, *, prefix: bool) -> list[str]:
    """Apply a rule to a name, or to the beginning of one: what is generated goes on, so a dash may end it."""
    if prefix and name.endswith("-"):
        name = name[:-1] + "a"
    return rule(name)


def validate_labels(labels: Any, path: str) -> list[FieldError]:
    """The rules of a map of labels."""
    errors: list[FieldError] = []
    if not isinstance(labels, Mapping):
        return errors
    for key, value in labels.items():
        errors += [invalid_value(path, key, problem) for problem in qualified_name(key)]
        if value and (problems := label_value(value)):
            errors += [invalid_value(path, value, problem) for problem in problems]
    return errors


def validate_annotations(annotations: Any, path: str) -> list[FieldError]:
    """The rules of a map of annotations."""
    errors: list[FieldError] = []
    if not isinstance(annotations, Mapping):
        return errors
    total = 0
    for key, value in annotations.items():
        errors += [invalid_value(path, key, problem) for problem in qualified_name(key.lower())]
        total += len(key.encode()) + len((value or "").encode())
    if total > MAX_ANNOTATIONS:
        errors.append(too_long(path, MAX_ANNOTATIONS))
    return errors
