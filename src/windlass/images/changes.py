"""Dockerfile instructions that `import --change` and `commit --change` apply to an image's configuration.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR, by the rules of the
Dockerfile reference.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
from collections.abc import Callable, Iterable
from typing import Any

from windlass.errors import InvalidParameter

Config = dict[str, Any]
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.DOTALL)
_CONTINUED = re.compile(r"\\[ \t]*\n")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SIGNALS = frozenset(one.name.removeprefix("SIG") for one in signal.Signals)
_REAL_TIME = re.compile(r"RTM(IN\+([1-9]|1[0-5])|AX-([1-9]|1[0-4]))")
_DEFAULT_SHELL = ["/bin/sh", "-c"]


def apply_changes(config: Config, changes: Iterable[str]) -> Config:
    """A configuration with the instructions applied, in their order. Raises InvalidParameter naming the line."""
    result: Config = json.loads(json.dumps(config))
    for change in changes:
        for line in _CONTINUED.sub(" ", change).splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, rest = line.strip().partition(" ")
            instruction = _INSTRUCTIONS.get(name.upper())
            if instruction is None:
                raise InvalidParameter(f"{name} is not a valid change command")
            try:
                if not rest.strip():
                    raise ValueError("requires at least one argument")
                instruction(result, rest.strip())
            except ValueError as error:
                raise InvalidParameter(f"{name.upper()}: {error}") from None
    return result


def _words(text: str) -> list[str]:
    """Split by blanks, with quotes and backslashes understood and taken away."""
    words = []
    for match in _WORD.finditer(text):
        words.append(_unquote(match[0]))
    return words


def _unquote(word: str) -> str:
    out, quote, index = [], "", 0
    while index < len(word):
        letter = word[index]
        if letter == "\\" and quote != "'" and index + 1 < len(word):
            index += 1
            out.append(word[index])
        elif quote:
            quote = "" if letter == quote else quote
            if quote:
                out.append(letter)
        elif letter in "\"'":
            quote = letter
        else:
            out.append(letter)
        index += 1
    return "".join(out)


def _json_list(text: str) -> list[str] | None:
    """The exec form, or None where it is not."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if isinstance(found, list) and all(isinstance(word, str) for word in found):
        return found
    return None


def _command(config: Config, text: str) -> list[str] | None:
    if not text:
        return None
    exact = _json_list(text)
    return exact if exact is not None else [*(config.get("Shell") or _DEFAULT_SHELL), text]


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(config, text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(config, text)
    # A new entry point does not want the arguments of the old one.
    config.pop("Cmd", None)


def _pairs(text: str, *, what: str) -> dict[str, str]:
    first = text.partition(" ")[0]
    if "=" not in first:
        key, _, value = text.partition(" ")
        if not value:
            raise ValueError(f"{what} must have two arguments")
        return {key: value.strip()}
    found = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        found[key] = value
    return found


def _env(config: Config, text: str) -> None:
    variables = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
    variables |= _pairs(text, what="ENV")
    config["Env"] = [f"{key}={value}" for key, value in variables.items()]


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **_pairs(text, what="LABEL")}


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in _words(text):
        match = _PORT.fullmatch(word)
        if match is None:
            raise ValueError(f"invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"invalid range of ports: {word}")
        protocol = (match[3] or "tcp").lower()
        ports |= {f"{port}/{protocol}": {} for port in range(first, last + 1)}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str) -> None:
    names = _json_list(text)
    volumes = dict(config.get("Volumes") or {})
    for name in _words(text) if names is None else names:
        if not name:
            raise ValueError("VOLUME specified can not be an empty string")
        volumes[name] = {}
    config["Volumes"] = volumes


def _workdir(config: Config, text: str) -> None:
    path = posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "", _unquote(text)))
    config["WorkingDir"] = "/" + path.lstrip("/")


def _shell(config: Config, text: str) -> None:
    shell = _json_list(text)
    if not shell:
        raise ValueError("SHELL requires the arguments to be in JSON form")
    config["Shell"] = shell


def _onbuild(config: Config, text: str) -> None:
    trigger = text.partition(" ")[0].upper()
    if trigger in {"ONBUILD", "FROM", "MAINTAINER", ""}:
        raise ValueError(f"{trigger or 'nothing'} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _healthcheck(config: Config, text: str) -> None:
    check: Config = {}
    words = text
    fields = {
        "interval": "Interval",
        "timeout": "Timeout",
        "start-period": "StartPeriod",
        "start-interval": "StartInterval",
    }
    while words.startswith("--"):
        flag, _, words = words.partition(" ")
        name, equals, value = flag[2:].partition("=")
        if name == "retries" and value.isdecimal():
            check["Retries"] = int(value)
        elif name in fields and equals:
            check[fields[name]] = _duration(value)
            if 0 < check[fields[name]] < 10**6:
                raise ValueError(f"{fields[name]} cannot be less than 1ms")
        else:
            raise ValueError(f"unknown flag: {flag}")
        words = words.strip()
    kind, _, rest = words.partition(" ")
    if kind.upper() == "NONE":
        if rest or check:
            raise ValueError("NONE takes no arguments")
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if kind.upper() != "CMD" or not rest.strip():
        raise ValueError(f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")
    exact = _json_list(rest.strip())
    config["Healthcheck"] = {"Test": ["CMD", *exact] if exact is not None else ["CMD-SHELL", rest.strip()], **check}


def _duration(text: str) -> int:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'invalid duration "{text}"')
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _stop_signal(config: Config, text: str) -> None:
    name = text.upper().removeprefix("SIG")
    is_number = name.isascii() and name.isdigit()
    if not (1 <= int(name) <= 64 if is_number else name in _SIGNALS or _REAL_TIME.fullmatch(name)):
        raise ValueError(f"invalid signal: {text}")
    config["StopSignal"] = text


def _text(field: str) -> Callable[[Config, str], None]:
    def instruction(config: Config, text: str) -> None:
        if not text or len(_words(text)) != 1:
            raise ValueError("requires exactly one argument")
        config[field] = _words(text)[0]

    return instruction


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _text("User"),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
