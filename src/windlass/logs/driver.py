"""Drivers by name, for writing: `json-file`, `local`, `none`. Nothing that is imported here knows asyncio: the monitor
opens writers (`reading.open_reader` is for the engine).
"""

from __future__ import annotations

from windlass.errors import InvalidParameter
from windlass.logs.options import file_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from windlass.logs.rotation import Spawn

    class LogWriter(Protocol):
        """Where a monitor puts a container's output."""

        @property
        def lost_bytes(self) -> int:
            """What could not be stored."""

        def write(self, stream: str, data: bytes, timestamp_ns: int) -> None:
            """Take a chunk of "stdout" or "stderr" that was read at `timestamp_ns`."""

        def flush(self) -> None:
            """The output has ended: store unfinished lines."""

        def close(self) -> None:
            """Flush and release the files."""


class NullWriter:
    """The driver `none`: output that nobody keeps."""

    __slots__ = ()
    lost_bytes = 0

    def write(self, stream: str, data: bytes, timestamp_ns: int) -> None:
        """Forget it."""

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Nothing is open."""


def open_writer(
    driver: str,
    options: Mapping[str, str],
    path: str,
    *,
    attrs: Mapping[str, str] | None = None,
    spawn: Spawn | None = None,
) -> LogWriter:
    """A writer that appends to the log at `path`, after repairing what a killed writer may have left.

    Args:
        driver: "json-file", "local" or "none".
        options: the values of `--log-opt`.
        attrs: attributes of every record (`options.extra_attributes`).
        spawn: runs a function in a child process (compression); None runs it in this one.

    Raises:
        InvalidParameter: unknown driver or a bad option, dockerd's text.
        OSError: the file cannot be opened.
    """
    if driver == "none":
        return NullWriter()
    if driver == "json-file":
        from windlass.logs.jsonfile import JsonFileWriter

        return JsonFileWriter(path, file_settings(driver, options), attrs=attrs or {}, spawn=spawn)
    if driver == "local":
        from windlass.logs.local import LocalWriter

        return LocalWriter(path, file_settings(driver, options), attrs=attrs or {}, spawn=spawn)
    raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
