"""AppArmor profiles: the text of the default one, compiling, loading and removing.

A profile is text, compiled by `apparmor_parser` (Debian's package `apparmor`) and loaded by a write to
/sys/kernel/security/apparmor/.replace. The compiled form depends on the kernel's features only, so it can be kept.

See apparmor.d(5) and apparmor_parser(8).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from windlass.kernel.lsm import APPARMOR, apparmor_profiles, check_profile_name


def _all_but(base: str, allowed: Sequence[str]) -> Iterator[str]:
    """Patterns for every path below `base` that begins with none of `allowed`, letter by letter.

    AppArmor has denials and no exceptions to them, so "all but fs/cgroup/" has to be said as: names that do not begin
    with f, or that begin with f and not with fs, and so on.
    """
    prefixes = {name[:length] for name in allowed for length in range(len(name))}
    for prefix in sorted(prefixes):
        following = sorted({name[len(prefix)] for name in allowed if name.startswith(prefix) and name != prefix})
        yield f"{base}{prefix}[^{''.join(following)}]**"
        if prefix and not prefix.endswith("/"):
            yield f"{base}{prefix}"
            if "/" not in following:  # a bracket expression does not match a slash
                yield f"{base}{prefix}/**"


def default_profile(name: str, *, daemon: str = "unconfined") -> str:
    """The text of a profile with the effect of Docker's default: all files, networks and capabilities, but no mounts,
    no writing to what /proc and /sys say of the host, signals and traces only within it and from the host.

    `daemon` is the profile by which the engine itself is confined. It includes no file, so none need be installed.
    """
    check_profile_name(name)
    check_profile_name(daemon)
    senders = dict.fromkeys(("unconfined", "runc", "crun", daemon))
    rules = [
        *("network,", "capability,", "file,", "umount,", "deny mount,"),
        *(f"signal (receive) peer={sender}," for sender in senders),
        f"signal (send, receive) peer={name},",
        *("ptrace (readby, tracedby),", f"ptrace (trace, read) peer={name},"),
        # Files of /proc itself, and directories other than those of processes and /proc/sys.
        "deny /proc/* w,",
        *(f"deny /proc/{pattern} w," for pattern in ("[^0-9s]*/**", "s/**", "s[^y]*/**")),
        *(f"deny /proc/{pattern} w," for pattern in ("sy/**", "sy[^s]*/**", "sys?*/**")),
        # Settings: only those of System V shared memory and of the container's own network.
        *(f"deny {pattern} w," for pattern in _all_but("/proc/sys/", ("kernel/shm", "net/"))),
        *(f"deny /proc/{file} rwklx," for file in ("sysrq-trigger", "kcore")),
        *(f"deny {pattern} wklx," for pattern in _all_but("/sys/", ("fs/cgroup/",))),
        *(f"deny /sys/{tree}/** rwklx," for tree in ("firmware", "devices/virtual/powercap", "kernel/security")),
    ]
    body = "\n".join(f"  {rule}" for rule in rules)
    return f"profile {name} flags=(attach_disconnected,mediate_deleted) {{\n{body}\n}}\n"


def parser_path() -> str | None:
    """Where `apparmor_parser` is; None if it is not installed."""
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"]:
        path = f"{directory}/apparmor_parser"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def compile_profile(text: str) -> bytes:
    """A profile's text in the form that the kernel loads. Starts a process.

    Raises `OSError`: ENOENT where the parser is not installed, EINVAL with its words where it refuses the text.
    """
    parser = parser_path()
    if parser is None:
        raise OSError(errno.ENOENT, "apparmor_parser is not installed (Debian's package apparmor)")
    import subprocess  # here, since processes that only use labels shall stay small

    command = [parser, "--skip-cache", "--stdout", "--quiet"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=60)
    if done.returncode or not done.stdout:
        lines = done.stderr.decode(errors="replace").splitlines()
        words = "; ".join(line for line in lines if not line.startswith("Warning")) or f"exit status {done.returncode}"
        raise OSError(errno.EINVAL, f"apparmor_parser refused the profile: {words}")
    return done.stdout


def _command(file: str, data: bytes, what: str) -> None:
    try:
        fd = os.open(f"{APPARMOR}/{file}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OSError(errno.EOPNOTSUPP, f"{what}: AppArmor is not enabled here") from None
    try:
        os.write(fd, data)
    except OSError as error:
        raise OSError(error.errno, f"{what}: {os.strerror(error.errno or 0).lower()}") from None
    finally:
        os.close(fd)


def load_profile(binary: bytes) -> None:
    """Load compiled profiles, or replace those of the same names. `OSError` says why the kernel does not take them."""
    _command(".replace", binary, "loading an apparmor profile")


def remove_profile(name: str) -> None:
    """Unload a profile: its processes become unconfined. ENOENT if there is none of that name."""
    check_profile_name(name)
    _command(".remove", name.encode(), f"removing apparmor profile {name!r}")


def ensure_default_profile(name: str) -> None:
    """Load the default profile under `name`, unless a profile of that name is loaded already."""
    if name not in apparmor_profiles():
        load_profile(compile_profile(default_profile(name)))
