"""Linux security modules that label processes: AppArmor and SELinux.

A process asks for the label that its next execve(2) gives it, by writing to its own attribute file:

    /proc/thread-self/attr/apparmor/exec   "exec docker-default"       (attr/exec before Linux 5.8)
    /proc/thread-self/attr/exec            "system_u:system_r:container_t:s0:c1,c2"

An image can bring a /proc of its own, or have mounts placed over parts of it, so that such a write goes nowhere and
the program runs without a label (CVE-2019-16884, CVE-2019-19921, CVE-2023-28642, CVE-2025-52881). So the file is opened
below a descriptor of a proc file system that the caller trusts, across no mount point, and must itself be procfs.

See proc_pid_attr(5), and Linux: admin-guide/LSM/. AppArmor's profiles are in `apparmor.py`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from windlass.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_XDEV, openat2

_PROC_SUPER_MAGIC = 0x9FA0
_SECURITY = "/sys/kernel/security"
APPARMOR = f"{_SECURITY}/apparmor"
_SELINUX = "/sys/fs/selinux"
_PROFILE_NAME = re.compile(r"[A-Za-z0-9_.:+-][A-Za-z0-9_.:+/-]{0,254}")
_CONTEXT = re.compile(r"[A-Za-z0-9_]+:[A-Za-z0-9_]+:[A-Za-z0-9_]+(:[A-Za-z0-9_.,:-]+)?")


class Label(NamedTuple):
    """What confines a process: a name, and for AppArmor a mode (`enforce`, `complain`, …; "" when unconfined)."""

    name: str
    mode: str = ""


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n\0")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EINVAL, errno.EACCES, errno.EOPNOTSUPP}:
            return None
        raise


def active_modules() -> tuple[str, ...]:
    """The names of the kernel's security modules, in the order in which they are asked; () without securityfs."""
    text = _read(f"{_SECURITY}/lsm")
    return tuple(text.split(",")) if text else ()


def _attribute(process: int, proc: int, names: Sequence[str], flags: int) -> tuple[int, str]:
    """Open the first of a process's attribute files that exists; its descriptor and path. ENOENT where none does."""
    directory = str(process) if process else "thread-self"
    for name in names:
        path = f"{directory}/attr/{name}"
        try:
            fd = openat2(proc, path, flags | os.O_CLOEXEC, resolve=RESOLVE_BENEATH | RESOLVE_NO_XDEV)
        except FileNotFoundError:
            continue
        if not _is_proc(fd):
            os.close(fd)
            raise OSError(errno.EPERM, f"not a file of a proc file system: /proc/{path}")
        return fd, f"/proc/{path}"
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"/proc/{directory}/attr/{names[0]}")


def _is_proc(fd: int) -> bool:
    # struct statfs begins with f_type, a long on every machine type that the kernel supports but s390 (an int).
    buffer = (ctypes.c_long * 32)()
    if ctypes.CDLL(None, use_errno=True).fstatfs(fd, buffer):
        code = ctypes.get_errno()
        raise OSError(code, f"fstatfs: {os.strerror(code)}")
    return buffer[0] & 0xFFFFFFFF == _PROC_SUPER_MAGIC


def _with_proc(proc: int | None) -> tuple[int, bool]:
    """The given descriptor, or a new one of /proc that is to be closed."""
    if proc is not None:
        return proc, False
    return os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), True


def _set(names: Sequence[str], value: str, proc: int | None, what: str) -> None:
    directory, ours = _with_proc(proc)
    try:
        fd, path = _attribute(0, directory, names, os.O_WRONLY)
        try:
            os.write(fd, value.encode())
        except OSError as error:
            raise OSError(error.errno, f"{what}: write {path}: {os.strerror(error.errno or 0).lower()}") from None
        finally:
            os.close(fd)
    finally:
        if ours:
            os.close(directory)


def _get(names: Sequence[str], process: int, proc: int | None) -> str:
    directory, ours = _with_proc(proc)
    try:
        fd, _ = _attribute(process, directory, names, os.O_RDONLY)
        try:
            return os.read(fd, 4096).decode("utf-8", "surrogateescape").rstrip("\n\0")
        finally:
            os.close(fd)
    finally:
        if ours:
            os.close(directory)


# --- AppArmor


def apparmor_enabled() -> bool:
    """Does this kernel confine by AppArmor, and can its profiles be loaded and listed from here?"""
    return _read("/sys/module/apparmor/parameters/enabled") == "Y" and os.path.isdir(APPARMOR)


def require_apparmor(profile: str) -> None:
    """Raises `OSError`: EOPNOTSUPP without AppArmor, ENOENT without this profile, EINVAL if it cannot be a name."""
    if not apparmor_enabled():
        raise OSError(errno.EOPNOTSUPP, f"apparmor profile {profile!r} asked for, but AppArmor is not enabled here")
    check_profile_name(profile)
    if profile != "unconfined" and profile not in apparmor_profiles():
        raise OSError(errno.ENOENT, f"apparmor profile {profile!r} is not loaded")


def check_profile_name(profile: str) -> None:
    """Raises `OSError` (EINVAL) on what cannot be a profile's name."""
    if not _PROFILE_NAME.fullmatch(profile):
        raise OSError(errno.EINVAL, f"invalid apparmor profile name {profile!r:.80}")


def apparmor_profiles() -> dict[str, str]:
    """The loaded profiles and their modes. Empty where AppArmor is not enabled."""
    found: dict[str, str] = {}
    for line in (_read(f"{APPARMOR}/profiles") or "").splitlines():
        label = parse_label(line)
        found[label.name] = label.mode
    return found


def parse_label(text: str) -> Label:
    """`docker-default (enforce)`, as the kernel shows labels, or a bare name."""
    match = re.fullmatch(r"(.*) \(([a-z]+)\)", text.rstrip("\n\0"), re.DOTALL)
    return Label(match[1], match[2]) if match else Label(text.rstrip("\n\0"))


def apparmor_label(process: int = 0, *, proc: int | None = None) -> Label:
    """What AppArmor confines a process by (0: the calling thread). Raises `OSError` if there is no such process."""
    return parse_label(_get(("apparmor/current", "current"), process, proc))


def set_apparmor_exec(profile: str, *, proc: int | None = None) -> None:
    """The calling thread's next execve runs under `profile` ("unconfined": under none).

    `proc`: a descriptor of a proc file system that no container could touch; without it /proc is opened. Raises
    `OSError`: EOPNOTSUPP without AppArmor, ENOENT if the profile is not loaded, EACCES if we are confined ourselves and
    may not change to it.
    """
    check_profile_name(profile)
    try:
        _set(("apparmor/exec", "exec"), f"exec {profile}", proc, f"apparmor profile {profile!r} cannot be applied")
    except FileNotFoundError as error:
        if error.filename is None:  # the kernel's answer: no such profile
            raise OSError(errno.ENOENT, f"apparmor profile {profile!r} is not loaded") from None
        message = f"apparmor profile {profile!r} asked for, but this kernel has no AppArmor"
        raise OSError(errno.EOPNOTSUPP, message) from None


# --- SELinux


def selinux_enabled() -> bool:
    """Is SELinux there with a policy loaded? (Without one every process has the context `kernel`.)"""
    if not os.path.exists(f"{_SELINUX}/enforce"):
        return False
    return _read("/proc/thread-self/attr/current") not in {None, "", "kernel"}


def selinux_enforcing() -> bool:
    """Does it refuse (True) or only report (False)?"""
    return _read(f"{_SELINUX}/enforce") == "1"


def selinux_label(process: int = 0, *, proc: int | None = None) -> str:
    """A process's context (0: the calling thread's). Raises `OSError` if there is no such process."""
    return _get(("selinux/current", "current"), process, proc)


def check_context(label: str) -> str:
    """`user:role:type[:level]`; raises `OSError` (EINVAL) on anything else."""
    if not _CONTEXT.fullmatch(label) or len(label) > 4095:
        raise OSError(errno.EINVAL, f"invalid SELinux label {label!r:.80}")
    return label


def require_selinux(label: str) -> None:
    """Raises `OSError`: EINVAL if it cannot be a label, EOPNOTSUPP without SELinux."""
    check_context(label)
    if not selinux_enabled():
        raise OSError(errno.EOPNOTSUPP, f"selinux label {label!r} asked for, but SELinux is not enabled here")


def set_selinux_exec(label: str, *, proc: int | None = None, enabled: bool = False) -> None:
    """The calling thread's next execve, and the keys it makes, have the context `label`. As `set_apparmor_exec`.

    `enabled`: that SELinux is there has been found out already, by somebody who sees the host's /sys.
    """
    check_context(label)
    if not enabled:
        require_selinux(label)
    for name in ("exec", "keycreate"):
        _set((f"selinux/{name}", name), label, proc, f"selinux label {label!r} cannot be applied")


def mount_context(options: str, label: str) -> str:
    """Mount options with the label that all files of the mount shall have."""
    context = f'context="{check_context(label)}"'
    return f"{options},{context}" if options else context
