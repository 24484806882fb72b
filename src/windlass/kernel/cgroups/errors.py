"""The one error that this room raises: which control file, which value, why.

Its text is the form that people know from container engines, so that the rooms above may show it as it is:

    failed to write "4096": write /sys/fs/cgroup/memory/windlass/x/memory.limit_in_bytes: device or resource busy
"""

from __future__ import annotations

import os


def reason(number: int) -> str:
    """The system's text for an errno as engines print it: without a leading capital."""
    text = os.strerror(number)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


class CgroupError(OSError):
    """A control file refused, or a value cannot be one.

    `errno` is the kernel's answer (EINVAL where the value was refused before any write), `filename` the control file's
    path ("" where there is none) and `value` what was to be written (None where the error is not a write's).
    """

    value: str | None

    def __init__(self, number: int, message: str, *, file: str = "", value: str | None = None) -> None:
        super().__init__(number, message, file or None)
        self.value = value

    def __str__(self) -> str:
        return str(self.strerror)


def write_error(error: OSError, file: str, value: str) -> CgroupError:
    """The kernel refused `value` in `file`."""
    number = error.errno or 0
    return CgroupError(number, f'failed to write "{value}": write {file}: {reason(number)}', file=file, value=value)


def file_error(error: OSError, verb: str, file: str) -> CgroupError:
    """`verb` (open, read, mkdir, …) failed on `file`."""
    number = error.errno or 0
    return CgroupError(number, f"{verb} {file}: {reason(number)}", file=file)
