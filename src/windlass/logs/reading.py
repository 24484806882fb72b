"""Drivers by name, for reading: `json-file`, `local`."""

from __future__ import annotations

from collections.abc import Mapping

from windlass.errors import NotImplementedByEngine
from windlass.logs.decoders import JsonDecoder, LocalDecoder
from windlass.logs.reader import LogReader


def open_reader(driver: str, options: Mapping[str, str], path: str) -> LogReader:
    """A reader of the log at `path`, which need not exist yet.

    Args:
        driver: "json-file" or "local".
        options: the values of `--log-opt` (none of these drivers needs one to be read).

    Raises:
        NotImplementedByEngine: the driver keeps nothing that could be read.
    """
    if driver == "json-file":
        return LogReader(path, JsonDecoder())
    if driver == "local":
        return LogReader(path, LocalDecoder())
    raise NotImplementedByEngine("configured logging driver does not support reading")
