"""What `--log-opt` may say, checked with dockerd's rules and dockerd's words.

Two moments, as in dockerd: `validate_options` refuses unknown names when a container is created, `file_settings` reads
the values when the log is opened (at the start; the engine calls it at creation too, so nobody waits for the error).
The one difference is deliberate: where no size is given dockerd never rotates json-file; here 5 files of 20 MB is the
default, because a log that fills the disk is nobody's wish.
"""

from __future__ import annotations

from windlass.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVERS = ("json-file", "local", "none")
DEFAULT_MAX_SIZE = 20_000_000
DEFAULT_MAX_FILES = 5

_FILE_OPTIONS = frozenset({"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"})
_COMMON_OPTIONS = frozenset({"mode", "max-buffer-size", "cache-disabled"} | {"cache-" + name for name in _FILE_OPTIONS})
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_POWERS = "kmgtpe"


class FileSettings:
    """Limits of a log on disk: bytes of one file, number of files, whether rotated files are compressed."""

    __slots__ = ("compress", "max_files", "max_size")

    def __init__(self, *, max_size: int, max_files: int, compress: bool) -> None:
        self.max_size = max_size
        self.max_files = max_files
        self.compress = compress


def validate_options(driver: str, options: Mapping[str, str]) -> None:
    """Refuse what dockerd refuses when a container is created.

    Raises:
        InvalidParameter: unknown driver, unknown option, or a mode that does not exist; dockerd's text.
    """
    if driver == "none":
        return
    if options.get("mode", "") not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {options['mode']}")
    if "max-buffer-size" in options:
        if options.get("mode") != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            parse_size(options["max-buffer-size"], binary=True)
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from None
    disabled = options.get("cache-disabled", "")
    if disabled and disabled not in _TRUE | _FALSE:
        raise InvalidParameter(f"invalid value for option cache-disabled: {disabled}")
    if driver not in DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    for name in sorted(set(options) - _COMMON_OPTIONS - _FILE_OPTIONS):
        if driver == "json-file":
            raise InvalidParameter(f"unknown log opt '{name}' for json-file log driver")
        raise InvalidParameter(f"unknown log opt '{name}' for log driver {driver}")


def file_settings(driver: str, options: Mapping[str, str]) -> FileSettings:
    """The limits that the options of `json-file` or `local` ask for.

    Raises:
        InvalidParameter: a value that dockerd refuses when it opens the log; dockerd's text.
    """
    return _json_file_settings(options) if driver == "json-file" else _local_settings(options)


def _json_file_settings(options: Mapping[str, str]) -> FileSettings:
    max_size, max_files = DEFAULT_MAX_SIZE, DEFAULT_MAX_FILES
    if "max-size" in options:
        max_size = parse_size(options["max-size"])
        if max_size <= 0:
            raise InvalidParameter("max-size must be a positive number")
        max_files = 1  # whoever sets the size gets dockerd's default for the other
    if "max-file" in options:
        max_files = _parse_int(options["max-file"])
        if max_files < 1:
            raise InvalidParameter("max-file cannot be less than 1")
    compress = _parse_bool(options["compress"]) if "compress" in options else False
    if compress and max_files == 1:
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return FileSettings(max_size=max_size, max_files=max_files, compress=compress)


def _local_settings(options: Mapping[str, str]) -> FileSettings:
    max_size, max_files, compress = DEFAULT_MAX_SIZE, DEFAULT_MAX_FILES, True
    name, value = "", ""
    try:
        if "max-size" in options:
            name, value = "max-size", options["max-size"]
            max_size = parse_size(value)
        if "max-file" in options:
            name, value = "max-file", options["max-file"]
            max_files = _parse_int(value)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid value for {name}: {value}: {error}") from None
    if "compress" in options:
        try:
            compress = _parse_bool(options["compress"])
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid boolean value for compress: {error}") from None
    if max_files < 0:
        raise InvalidParameter("max-file must not be negative")
    if compress and max_files <= 1:
        raise InvalidParameter("compression cannot be enabled when max file count is 1")
    return FileSettings(max_size=max(max_size, 1), max_files=max(max_files, 1), compress=compress)


def extra_attributes(
    options: Mapping[str, str], *, labels: Mapping[str, str], env: list[str], tag: str = ""
) -> dict[str, str]:
    """The `attrs` of every record: the labels and environment variables that the options name, and the tag.

    Args:
        options: `labels`, `env` (comma-separated names), `labels-regex`, `env-regex`.
        labels: the container's labels.
        env: the container's environment, `NAME=value`.
        tag: the tag, its template already filled in.

    Raises:
        InvalidParameter: a regular expression does not compile.
    """
    variables = dict(entry.split("=", 1) for entry in env if "=" in entry)
    found: dict[str, str] = {}
    for option, values in (("labels", labels), ("env", variables)):
        for name in filter(None, options.get(option, "").split(",")):
            if name in values:
                found[name] = values[name]
        pattern = options.get(option + "-regex", "")
        if pattern:
            import re

            try:
                matches = re.compile(pattern).search
            except re.error as error:
                raise InvalidParameter(f"error parsing regexp: {error}: `{pattern}`") from None
            found.update((name, value) for name, value in values.items() if matches(name))
    if tag:
        found["tag"] = tag
    return found


def parse_size(text: str, *, binary: bool = False) -> int:
    """A number of bytes from "10", "1.5k", "20 MB", "1GiB"; units of 1000, or of 1024 if `binary`.

    Raises:
        InvalidParameter: with the words of Docker's units library.
    """
    end = 1 + max(text.rfind(char) for char in "0123456789. ")
    if end == 0:
        raise InvalidParameter(f"invalid size: '{text}'")
    number = text[: end - 1] if text[end - 1] == " " else text[:end]
    suffix = text[end:]
    try:
        if number != number.strip() or "_" in number:
            raise ValueError
        value = float(number)
    except ValueError:
        raise InvalidParameter(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if not 0 <= value < 2**63:
        raise InvalidParameter(f"invalid size: '{text}'")
    unit = suffix.lower()
    if unit in ("", "b"):
        return int(value)
    if len(unit) > 3 or unit[0] not in _POWERS or unit[1:] not in ("", "b", "ib"):
        raise InvalidParameter(f"invalid suffix: '{suffix if len(suffix) > 3 else unit}'")
    value *= float((1024 if binary else 1000) ** (1 + _POWERS.index(unit[0])))
    if value >= 2**63:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(value)


def _parse_int(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if len(digits) > 18:
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": value out of range')
    return int(text)


def _parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')
