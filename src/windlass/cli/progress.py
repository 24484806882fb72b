"""Progress of pull, push and load: a line for each layer that is drawn over on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from windlass.cli.units import human_size


class StreamError(Exception):
    """The engine reported an error in the middle of the stream."""


def bar(current: int, total: int, width: int) -> str:
    """`[====>     ]  1.2MB/4.3MB`, as docker draws it."""
    if total <= 0:
        return f"{human_size(current):>8}"
    filled = min(50, 50 * current // total)
    drawn = ""
    if width > 110:
        drawn = "[" + "=" * filled + (">" if filled < 50 else "") + " " * (49 - filled) + "] "
    return f"{drawn}{human_size(min(current, total)):>8}/{human_size(total)}"


class Progress:
    """Draws messages of a progress stream."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._lines: dict[str, int] = {}
        self._height = 0
        self._said: set[tuple[str, str]] = set()

    def show(self, message: dict[str, Any]) -> None:
        """Draw one message. Raises StreamError for an error message."""
        if error := message.get("errorDetail") or message.get("error"):
            raise StreamError(error["message"] if isinstance(error, dict) else error)
        if "stream" in message:
            self._out.write(message["stream"])
            self._out.flush()
            return
        status, identity = message.get("status", ""), message.get("id", "")
        if not status:
            return
        detail = message.get("progressDetail") or {}
        if not identity:
            self._print(status)
        elif self._terminal:
            self._draw(identity, status, detail)
        elif not detail.get("current") and (identity, status) not in self._said:
            # A log needs each change once, not each byte.
            self._said.add((identity, status))
            self._print(f"{identity}: {status}")

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
        if self._terminal:
            # Lines above this one are not drawn over any more.
            self._lines.clear()
            self._height = 0

    def _draw(self, identity: str, status: str, detail: dict[str, Any]) -> None:
        text = f"{identity}: {status}"
        if current := detail.get("current"):
            try:
                width = os.get_terminal_size(self._out.fileno()).columns
            except OSError:
                width = 80
            text += " " + bar(current, detail.get("total") or 0, width)
        if identity not in self._lines:
            self._lines[identity] = self._height
            self._height += 1
            self._out.write("\n")
        up = self._height - self._lines[identity]
        self._out.write(f"\x1b[{up}A\r\x1b[2K{text}\r\x1b[{up}B")
        self._out.flush()


def show_progress(messages: Iterable[dict[str, Any]], *, quiet: bool = False, to_stderr: bool = False) -> list[Any]:
    """Draw a whole stream; returns its `aux` values. Raises StreamError."""
    progress = Progress(sys.stderr if to_stderr else sys.stdout)
    found = []
    for message in messages:
        if "aux" in message:
            found.append(message["aux"])
        elif not quiet or "error" in message or "errorDetail" in message:
            progress.show(message)
    return found
