"""daemon.json: dockerd's keys, and its refusals of unknown keys and of options that also stand on the command line."""

from __future__ import annotations

from typing import Any, Final

from windlass.daemon.options import BY_KEY
from windlass.errors import InvalidParameter

# Objects under these keys are values; under any other key they only group options (`proxies`).
_FLAT: Final = frozenset(("default-network-opts", "log-opts", "runtimes", "default-ulimits", "features", "builder"))
_MERGED: Final = frozenset(("runtimes",))  # may stand in the file and on the command line
_OLD_NAMES: Final = {"host-gateway-ip": "host-gateway-ips"}


def read_config_file(path: str, given: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The values of the file by field of `Settings`, and the keys that it sets.

    `given` are the flags of the command line. Raises `FileNotFoundError`, `InvalidParameter` with dockerd's words.
    """
    document = _load(path)
    _refuse(document, given)
    values: dict[str, Any] = {}
    for key, value in document.items():
        key = _OLD_NAMES.get(key, key)
        option = BY_KEY[key]
        if value is None or not option.field:
            continue
        if key == "host-gateway-ips" and isinstance(value, str):
            value = [value]
        values[option.field] = option.kind.from_json(key, value)
    return values, list(document)


def _load(path: str) -> dict[str, Any]:
    import orjson

    with open(path, "rb") as file:
        data = file.read()
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            data = data.decode(encoding).encode()
            break
    if not data.strip():
        return {}
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(str(error)) from None
    if not isinstance(document, dict):
        raise InvalidParameter("json: cannot unmarshal the file into a configuration: it must be an object")
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and key not in _FLAT:
            flat.update(value)
        else:
            flat[key] = value
    return flat


def _refuse(document: dict[str, Any], given: dict[str, str]) -> None:
    unknown = [key for key in document if key not in BY_KEY and key not in _OLD_NAMES]
    if unknown:
        raise InvalidParameter(
            f"the following directives don't match any configuration option: {', '.join(sorted(unknown))}"
        )
    for old, new in _OLD_NAMES.items():
        if old in document and new in document:
            raise InvalidParameter(f"{old} and {new} must not both be specified in the config file")
    conflicts = []
    for key, value in document.items():
        flag = BY_KEY[_OLD_NAMES.get(key, key)].flag
        if flag in given and key not in _MERGED:
            conflicts.append(f"{key}: (from flag: {_masked(key, given[flag])}, from file: {_masked(key, value)})")
    if conflicts:
        raise InvalidParameter(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(conflicts)
        )


def _masked(key: str, value: Any) -> str:
    """A proxy's credentials are not for error messages and logs."""
    text = str(value)
    if key in ("http-proxy", "https-proxy") and "@" in text:
        scheme, separator, rest = text.rpartition("://")
        return f"{scheme}{separator}xxxxx:xxxxx@{rest.rpartition('@')[2]}"
    if isinstance(value, bool):
        return text.lower()
    return f"[{' '.join(map(str, value))}]" if isinstance(value, list) else text
