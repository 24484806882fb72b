"""A command's declaration, and the parser for its line.

The grammar is that of docker's command line (spf13/pflag), which argparse cannot follow: `--flag=false` for switches,
`-it` and `-p80:80` in one word, `--` ends flags, and for `run` and `exec` the first argument ends them too. The help
text is made from the same declaration. No import costs more than a builtin: errors and `--help` are immediate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from windlass.cli.client import Client


class Flag(NamedTuple):
    """One flag. `kind` is what docker's help shows: bool, string, list, int, bytes, decimal, duration, optional."""

    name: str
    kind: str = "string"
    help: str = ""
    short: str = ""
    default: Any = None


class Command(NamedTuple):
    """One command: how its line reads, what it says about itself, and the function that does it."""

    name: str
    usage: str
    summary: str
    run: Callable[[Options], int]
    flags: tuple[Flag, ...] = ()
    minimum: int = 0
    maximum: int | None = 0
    interspersed: bool = True
    aliases: str = ""
    examples: str = ""


class UsageError(Exception):
    """The line does not fit the command; exit code 125 as docker's flags have it, 1 for a wrong count of arguments."""

    def __init__(self, message: str, command: Command | None = None, code: int = 125) -> None:
        super().__init__(message)
        self.command = command
        self.code = code


class Options:
    """The parsed line: a flag's value under its name with underscores, `args`, the rest, and the engine to ask."""

    def __init__(
        self,
        command: Command,
        values: dict[str, Any],
        given: set[str],
        args: list[str],
        connect: Callable[[], Client],
        config: str = "",
    ) -> None:
        self.command = command
        self.args = args
        self.config = config
        self._values = values
        self._given = given
        self._connect = connect
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The engine that the line names; connected on first use."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"no flag --{name.replace('_', '-')} in {self.command.name}") from None

    def given(self, name: str) -> bool:
        """Whether the flag stood on the line, even with its default as value."""
        return name in self._given


TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def _bool(text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError('strconv.ParseBool: parsing "' + text + '": invalid syntax')


def _int(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _convert(kind: str, text: str) -> Any:
    if kind == "bool":
        return _bool(text)
    if kind == "int":
        return _int(text)
    if kind == "bytes":
        from windlass.cli.units import parse_bytes

        return parse_bytes(text)
    if kind == "decimal":
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"failed to parse {text} as a rational number") from None
    if kind == "duration":
        from windlass.cli.units import parse_duration

        return parse_duration(text)
    return text


def _initial(flag: Flag) -> Any:
    if flag.default is not None:
        return list(flag.default) if flag.kind == "list" else flag.default
    return {"bool": False, "list": [], "int": 0, "bytes": 0, "decimal": 0.0, "duration": 0}.get(flag.kind, "")


def parse(command: Command, line: Sequence[str], connect: Callable[[], Client], config: str = "") -> Options:
    """Read a line. Raises UsageError with docker's words; HelpWanted where --help stands on it."""
    names = {flag.name: flag for flag in command.flags}
    shorts = {flag.short: flag for flag in command.flags if flag.short}
    values = {flag.name.replace("-", "_"): _initial(flag) for flag in command.flags}
    given: set[str] = set()
    args: list[str] = []
    words = list(line)
    index = 0

    def store(flag: Flag, text: str, spelled: str) -> None:
        key = flag.name.replace("-", "_")
        try:
            value = _convert(flag.kind, text)
        except ValueError as error:
            raise UsageError(f'invalid argument "{text}" for "{spelled}" flag: {error}', command) from None
        if flag.kind == "list":
            values[key].append(value)
        else:
            values[key] = value
        given.add(key)

    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            args += words[index:]
            break
        if not word.startswith("-") or word == "-":
            args.append(word)
            if not command.interspersed:
                args += words[index:]
                break
        elif word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            if name == "help":
                raise HelpWanted(command)
            flag = names.get(name)
            if flag is None:
                raise UsageError(f"unknown flag: --{name}", command)
            spelled = f"-{flag.short}, --{name}" if flag.short else f"--{name}"
            if not equals:
                if flag.kind == "bool":
                    text = "true"
                elif index < len(words):
                    text = words[index]
                    index += 1
                else:
                    raise UsageError(f"flag needs an argument: --{name}", command)
            store(flag, text, spelled)
        else:
            index = _shorts(word, words, index, shorts, store, command)
    _check_count(command, args)
    return Options(command, values, given, args, connect, config)


def _shorts(
    word: str,
    words: list[str],
    index: int,
    shorts: dict[str, Flag],
    store: Callable[[Flag, str, str], None],
    command: Command,
) -> int:
    """`-it`, `-p80:80`, `-p=80:80`, `-p 80:80`; returns the index of the next word."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = shorts.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpWanted(command)
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}", command)
        spelled = f"-{letter}, --{flag.name}"
        if flag.kind == "bool":
            if letters.startswith("="):
                store(flag, letters[1:], spelled)
                return index
            store(flag, "true", spelled)
            continue
        if letters:
            store(flag, letters.removeprefix("="), spelled)
        elif index < len(words):
            store(flag, words[index], spelled)
            return index + 1
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}", command)
        return index
    return index


def _check_count(command: Command, args: list[str]) -> None:
    count, low, high = len(args), command.minimum, command.maximum
    if count >= low and (high is None or count <= high):
        return
    if low == high == 0:
        wanted = "accepts no arguments"
    elif low == high:
        wanted = f"requires {low} argument{'s' if low > 1 else ''}"
    elif count < low:
        wanted = f"requires at least {low} argument{'s' if low > 1 else ''}"
    else:
        wanted = f"requires at most {high} argument{'s' if high != 1 else ''}"
    raise UsageError(f"'windlass {command.name}' {wanted}", command, code=1)


class HelpWanted(Exception):
    """`--help` stood on the line."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name)
        self.command = command


def usage_line(command: Command) -> str:
    """`Usage:  windlass run [OPTIONS] IMAGE …`."""
    return f"Usage:  windlass {command.name} {command.usage}".rstrip()


def help_text(command: Command) -> str:
    """The whole `--help` of a command."""
    parts = [usage_line(command), "", command.summary]
    if command.aliases:
        parts += ["", "Aliases:", "  " + command.aliases]
    if command.flags:
        parts += ["", "Options:", *option_lines(command.flags)]
    if command.examples:
        parts += ["", "Examples:"] + [f"  {line}" for line in command.examples.strip().splitlines()]
    return "\n".join(parts) + "\n"


def option_lines(flags: Iterable[Flag]) -> list[str]:
    """The flags' lines, in two columns, sorted by name as docker does."""
    shown = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        head = f"  -{flag.short}, " if flag.short else "      "
        kind = "" if flag.kind == "bool" else f" {flag.kind if flag.kind != 'optional' else 'string'}"
        default = ""
        if flag.default not in (None, "", 0, False, ()) and flag.kind != "list":
            default = f' (default "{flag.default}")' if isinstance(flag.default, str) else f" (default {flag.default})"
        shown.append((f"{head}--{flag.name}{kind}", flag.help + default))
    width = max(len(left) for left, _ in shown) + 3
    return [left.ljust(width) + right for left, right in shown]
