"""The command line of `windlass daemon`, with the grammar of dockerd's flags, and its `--help`.

`--name=value`, `--name value`, `-n value`, `-nvalue`, `-n=value`; switches stand alone or take `=true` and `=false`.
"""

from __future__ import annotations

from typing import Any

from windlass.daemon.options import BY_FLAG, BY_SHORT, OPTIONS, Option
from windlass.errors import InvalidParameter

_USAGE = """\
Usage:  windlass daemon [OPTIONS]

A container engine that speaks the Docker Engine API.

Examples:
  windlass daemon
        Listen on unix:///run/windlass/windlass.sock, keep everything in /var/lib/windlass
  windlass daemon --data-root /srv/a --exec-root /run/a -H unix:///run/a.sock
        A second engine beside the first; they never see each other
  windlass daemon -H tcp://0.0.0.0:2376 --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem
        Serve clients with certificates over the network
  windlass daemon --config-file daemon.json --validate
        Check a configuration and exit

Options:
"""
_OWN_HELP = (
    ("    --config-file string", "Daemon configuration file (default /etc/windlass/daemon.json)"),
    ("    --validate", "Validate daemon configuration and exit"),
    ("-h, --help", "Print usage"),
    ("-v, --version", "Print version information and quit"),
)
_SWITCHES = {"validate", "help", "version"}


class Arguments:
    """A parsed command line: values by field of `Settings`, and which flags were given, with their text."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.given: dict[str, str] = {}
        self.config_file: str | None = None
        self.validate = False
        self.help = False
        self.version = False


def parse_arguments(words: list[str]) -> Arguments:
    """Read the command line. Raises `InvalidParameter` with the message of dockerd's parser."""
    arguments = Arguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            _long(arguments, name, value if equals else None, rest)
        elif word.startswith("-") and len(word) > 1 and word != "--":
            _short(arguments, word[1:], rest)
        else:
            raise InvalidParameter(f'"windlass daemon" accepts no arguments: {word}')
    return arguments


def _long(arguments: Arguments, name: str, value: str | None, rest: list[str]) -> None:
    if name in _SWITCHES:
        setattr(arguments, name, value != "false")
    elif name == "config-file":
        arguments.config_file = _value(f"--{name}", value, rest)
    elif name in BY_FLAG:
        _set(arguments, BY_FLAG[name], f"--{name}", value, rest)
    else:
        raise InvalidParameter(f"unknown flag: --{name}")


def _short(arguments: Arguments, letters: str, rest: list[str]) -> None:
    letter, value = letters[0], letters[1:]
    if letter in "hv":
        setattr(arguments, "help" if letter == "h" else "version", True)
        return
    option = BY_SHORT.get(letter)
    if option is None:
        raise InvalidParameter(f"unknown shorthand flag: '{letter}' in -{letters}")
    if option.kind.metavar:
        _set(arguments, option, f"-{letter}", value.removeprefix("=") if value else None, rest)
        return
    _set(arguments, option, f"-{letter}", value[1:] if value.startswith("=") else None, rest)
    if value and not value.startswith("="):
        _short(arguments, value, rest)


def _value(shown: str, value: str | None, rest: list[str]) -> str:
    if value is not None:
        return value
    if not rest:
        raise InvalidParameter(f"flag needs an argument: {shown}")
    return rest.pop(0)


def _set(arguments: Arguments, option: Option, shown: str, value: str | None, rest: list[str]) -> None:
    text = (value if value is not None else "true") if not option.kind.metavar else _value(shown, value, rest)
    try:
        read = option.kind.from_text(text)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid argument "{text}" for "{shown}" flag: {error}') from None
    before = arguments.values.get(option.field)
    if option.kind.repeatable and before is not None:
        read = {**before, **read} if isinstance(read, dict) else [*before, *read]
        arguments.given[option.flag] += f",{text}"
    else:
        arguments.given[option.flag] = text
    if option.field:
        arguments.values[option.field] = read


def help_text() -> str:
    """What `--help` prints."""
    rows = list(_OWN_HELP)
    for option in OPTIONS:
        if not option.hidden:
            short = f"-{option.short}, " if option.short else "    "
            rows.append((f"{short}--{option.flag} {option.kind.metavar}".rstrip(), option.help))
    rows.sort(key=lambda row: row[0].lstrip("- ").split("--")[-1])
    width = max(len(left) for left, _ in rows) + 3
    return _USAGE + "".join(f"  {left:<{width}}{right}\n" for left, right in rows)
