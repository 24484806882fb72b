"""How errors are told: a line on stderr for people, and a record in the file of `--log` for the engine above us.

conmon and podman read stderr; containerd reads the log file, as JSON objects with "level", "msg" and "time".
"""

from __future__ import annotations

import json
import sys

from windlass.runtime.command.store import now


class Log:
    """Where messages go.

    Args:
        path: the file of `--log`, "" for none.
        form: "text" or "json", for the file and, without a file, for stderr.
    """

    def __init__(self, path: str = "", form: str = "text", *, debug: bool = False) -> None:
        self._path = path
        self._form = form
        self._debug = debug

    def error(self, message: str) -> None:
        """Why the command failed."""
        self._write("error", message)
        if self._path:
            print(message, file=sys.stderr)  # noqa: T201

    def warning(self, message: str) -> None:
        """Something that does not stop the command."""
        self._write("warning", message)

    def debug(self, message: str) -> None:
        """With `--debug`: what is being done."""
        if self._debug:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        if self._form == "json":
            line = json.dumps({"level": level, "msg": message, "time": now()}, separators=(",", ":"))
        else:
            line = f'time="{now()}" level={level} msg={json.dumps(message, ensure_ascii=False)}'
        try:
            if self._path:
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(line + "\n")
            else:
                print(line, file=sys.stderr)  # noqa: T201
        except OSError:
            print(line, file=sys.stderr)  # noqa: T201
