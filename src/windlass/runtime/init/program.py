"""The last steps: the working directory, the program, the descriptors, execve(2)."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from windlass.kernel import process
from windlass.runtime.init.context import Context
from windlass.runtime.plan import steps as plan
from windlass.runtime.wire import LaunchFailure

_OUTSIDE: Final = "current working directory is outside of container mount namespace root"


def enter_directory(step: plan.EnterDirectory, context: Context) -> None:
    """chdir(2) as root; where root is refused (a directory on NFS), the user may do better."""
    try:
        os.chdir(step.path)
        context.entered_directory = True
    except PermissionError:
        return
    except OSError as error:
        raise _refused(step.path, error) from None


def check_directory(step: plan.CheckDirectory, context: Context) -> None:
    """Be in the directory, and prove that it is inside: by a descriptor that leaked it might be the host's, whose
    path from our root the kernel then cannot tell (CVE-2024-21626)."""
    if not context.entered_directory:
        try:
            os.chdir(step.path)
        except OSError as error:
            raise _refused(step.path, error) from None
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    except PermissionError:
        inside = True  # a directory above it cannot be read, but there is one
    if not inside:
        raise LaunchFailure("cwd", f"{_OUTSIDE} -- possible container breakout detected", errno.EXDEV)


def _refused(path: str, error: OSError) -> LaunchFailure:
    reason = os.strerror(error.errno or 0).lower()
    return LaunchFailure("cwd", f'chdir to cwd ("{path}") set in config.json failed: {reason}', error.errno or 0)


def find(step: plan.FindProgram, context: Context) -> None:
    """What execvp(3) would find. Raises LaunchFailure: ENOENT (exit code 127) or EACCES (126)."""
    context.program = find_program(step.name, step.path)


def find_program(name: str, path: str) -> str:
    """The path of the program `name`, searched for in the directories of `path` unless it has a slash."""
    if "/" in name:
        _check_program(name)
        return name
    candidates = [f"{directory or '.'}/{name}" for directory in path.split(":")] if name else []
    for candidate in candidates:
        if os.access(candidate, os.X_OK, effective_ids=True) and not os.path.isdir(candidate):
            return candidate
    if any(os.path.exists(candidate) and not os.path.isdir(candidate) for candidate in candidates):
        raise LaunchFailure("exec", f'exec: "{name}": permission denied', errno.EACCES)
    raise LaunchFailure("exec", f'exec: "{name}": executable file not found in $PATH', errno.ENOENT)


def _check_program(name: str) -> None:
    try:
        mode = os.stat(name).st_mode
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise LaunchFailure("exec", f'exec: "{name}": stat {name}: {reason}', error.errno or 0) from None
    if stat.S_ISDIR(mode):
        raise LaunchFailure("exec", f'exec: "{name}": is a directory', errno.EACCES)
    if not os.access(name, os.X_OK, effective_ids=True):
        raise LaunchFailure("exec", f'exec: "{name}": permission denied', errno.EACCES)


def close_descriptors(step: plan.CloseDescriptors, context: Context) -> None:
    """Whatever was opened by whomever, execve(2) closes it."""
    process.close_on_exec_from(step.first)


def execute(step: plan.Execute, context: Context) -> None:
    """Become the program. Raises LaunchFailure if the kernel cannot."""
    environment = dict(entry.partition("=")[::2] for entry in step.env if "=" in entry)
    try:
        os.execve(context.program, step.args, environment)  # noqa: S606 - the very purpose
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise LaunchFailure("exec", f"exec {context.program}: {reason}", error.errno or 0) from None
    except ValueError as error:  # a NUL in an argument, a variable without a name
        raise LaunchFailure("exec", f"exec {context.program}: {error}", errno.EINVAL) from None
