"""What an image says about its containers, under what the client says: `docker run IMAGE` fills in the rest. Pure.

The rules are dockerd's: scalar values and lists of the client win whole; environment variables, labels, exposed ports
and volumes add up by name; an entrypoint of the client's hides the image's command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.errors import InvalidParameter

Document = dict[str, Any]

_HEALTHCHECK = ("Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")


def _name(variable: str) -> str:
    return variable.partition("=")[0]


def merge_config(config: Document, image: Mapping[str, Any]) -> None:
    """Complete `config`, a container's, from an image's configuration; both with the API's field names."""
    for field in ("User", "WorkingDir", "StopSignal"):
        if not config.get(field) and image.get(field):
            config[field] = image[field]
    if ports := image.get("ExposedPorts"):
        config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    if not config.get("Env"):
        config["Env"] = list(image["Env"]) if image.get("Env") else config.get("Env")
    elif image.get("Env"):
        own = {_name(variable) for variable in config["Env"]}
        config["Env"] = [*config["Env"], *(variable for variable in image["Env"] if _name(variable) not in own)]
    config["Labels"] = {**(image.get("Labels") or {}), **(config.get("Labels") or {})}
    if not config.get("Entrypoint"):
        if not config.get("Cmd"):
            config["Cmd"] = _copy(image.get("Cmd"))
        # An empty list, unlike none at all, means: not the image's.
        if config.get("Entrypoint") is None:
            config["Entrypoint"] = _copy(image.get("Entrypoint"))
    _merge_healthcheck(config, image.get("Healthcheck"))
    if volumes := image.get("Volumes"):
        config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in volumes}}


def _copy(value: list[str] | None) -> list[str] | None:
    return None if value is None else list(value)


def _merge_healthcheck(config: Document, check: Mapping[str, Any] | None) -> None:
    if not check:
        return
    own = config.get("Healthcheck") or {}
    merged = {field: own.get(field) or check.get(field) for field in _HEALTHCHECK}
    config["Healthcheck"] = {field: value for field, value in merged.items() if value}


def command_of(config: Document) -> tuple[str, list[str]]:
    """The program and its arguments. Raises `InvalidParameter` when there is none."""
    entrypoint = config.get("Entrypoint") or []
    if entrypoint == [""]:
        config["Entrypoint"], entrypoint = None, []
    words = [*entrypoint, *(config.get("Cmd") or [])]
    if not words:
        raise InvalidParameter("no command specified")
    return words[0], words[1:]


def replace_or_append(variables: list[str], overrides: list[str]) -> list[str]:
    """`variables` with `overrides` in place or at the end; an override without `=` removes a variable."""
    places = {_name(variable): index for index, variable in enumerate(variables)}
    result: list[str | None] = list(variables)
    for override in overrides:
        name, separator, _ = override.partition("=")
        place = places.get(name)
        if not separator:
            if place is not None:
                result[place] = None
        elif place is not None:
            result[place] = override
        else:
            result.append(override)
    return [variable for variable in result if variable]
