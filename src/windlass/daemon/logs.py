"""The daemon's own log on standard error, as dockerd writes it: `time=… level=info msg="…" key=value`, or JSON.

A record may carry fields: `log.info("started", extra={"fields": {"container": id}})`.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from typing import Any, Final

from windlass.daemon.settings import Settings

_LEVELS: Final = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}
_NAMES: Final = {
    logging.CRITICAL: "fatal",
    logging.ERROR: "error",
    logging.WARNING: "warning",
    logging.INFO: "info",
    logging.DEBUG: "debug",
}
_BARE: Final = re.compile(r"[A-Za-z0-9_./@:+^-]+")
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _quote(text: str) -> str:
    """One line, whatever is in it: names and messages of containers must not forge log lines."""
    if _BARE.fullmatch(text):
        return text
    quoted = "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}") for c in text)
    return f'"{quoted}"'


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.created % 1 * 1e9:09.0f}Z",
        "level": _NAMES.get(record.levelno, record.levelname.lower()),
        "msg": record.getMessage(),
    }
    if record.name.startswith("windlass."):
        fields["room"] = record.name.removeprefix("windlass.")
    fields.update(getattr(record, "fields", None) or {})
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = repr(record.exc_info[1])
        fields["stack"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return fields


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs; a stack follows on lines of its own, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        fields = _fields(record)
        stack = fields.pop("stack", "")
        line = " ".join(f"{key}={_quote(str(value))}" for key, value in fields.items())
        return line + "".join(f"\n    {text}" for text in stack.splitlines())


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        import orjson

        return orjson.dumps(_fields(record), default=str).decode()


def set_up(settings: Settings) -> None:
    """Send all records to standard error in the chosen form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if settings.log_format == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    set_level(settings)


def set_level(settings: Settings) -> None:
    """The level, which a reload may change."""
    logging.getLogger().setLevel(logging.DEBUG if settings.debug else _LEVELS[settings.log_level.lower()])
