"""Mount options of a configuration, sorted by what they are: attributes of the mount, propagation, or the file
system's own (runtime-spec, config.md and config-linux.md, "Mounts"; mount(8))."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from windlass.kernel import mounts as m


class MountOptions(NamedTuple):
    """`set` and `clear` are MOUNT_ATTR_ bits of this mount, `set_below` and `clear_below` of all mounts in its tree;
    `propagation` is (MS_ flag, whether recursive); `data` are (key, value) pairs for the file system."""

    bind: bool = False
    recursive: bool = False
    set: int = 0
    clear: int = 0
    set_below: int = 0
    clear_below: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()
    data: tuple[tuple[str, str | None], ...] = ()
    copy_up: bool = False
    idmap: str = ""


_SET: Final = {
    "ro": m.MOUNT_ATTR_RDONLY,
    "nosuid": m.MOUNT_ATTR_NOSUID,
    "nodev": m.MOUNT_ATTR_NODEV,
    "noexec": m.MOUNT_ATTR_NOEXEC,
    "nodiratime": m.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": m.MOUNT_ATTR_NOSYMFOLLOW,
}
_CLEAR: Final = {
    "rw": m.MOUNT_ATTR_RDONLY,
    "suid": m.MOUNT_ATTR_NOSUID,
    "dev": m.MOUNT_ATTR_NODEV,
    "exec": m.MOUNT_ATTR_NOEXEC,
    "diratime": m.MOUNT_ATTR_NODIRATIME,
    "symfollow": m.MOUNT_ATTR_NOSYMFOLLOW,
}
# The access-time modes exclude each other: setting one clears the others' bits.
_ATIME: Final = {"relatime": 0, "noatime": m.MOUNT_ATTR_NOATIME, "strictatime": m.MOUNT_ATTR_STRICTATIME}
_PROPAGATION: Final = {
    "private": m.MS_PRIVATE,
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "unbindable": m.MS_UNBINDABLE,
}
# Flags of the file system itself, which the new mount API takes as parameters.
_SUPERBLOCK: Final = frozenset({"sync", "dirsync", "lazytime", "mand"})
_NOTHING: Final = frozenset({"defaults", "async", "nolazytime", "nomand", "loud", "silent", "norelatime", "atime", ""})


def propagation_flag(name: str) -> tuple[int, bool] | None:
    """(MS_ flag, recursive) for `rslave` and the like; None for another word."""
    recursive = name.startswith("r") and name[1:] in _PROPAGATION
    flag = _PROPAGATION.get(name[1:] if recursive else name)
    return None if flag is None else (flag, recursive)


def parse_options(options: Iterable[str]) -> MountOptions:
    """Sort the words of a mount's options."""
    found = MountOptions()
    propagation: list[tuple[int, bool]] = []
    data: list[tuple[str, str | None]] = []
    for option in options:
        below = option.startswith("r") and (option[1:] in _SET or option[1:] in _CLEAR or option[1:] in _ATIME)
        word = option[1:] if below else option
        if option in {"bind", "rbind"}:
            found = found._replace(bind=True, recursive=found.recursive or option == "rbind")
        elif (flag := propagation_flag(option)) is not None:
            propagation.append(flag)
        elif word in _SET or word in _CLEAR or word in _ATIME:
            found = _attribute(found, word, below=below)
        elif option == "tmpcopyup":
            found = found._replace(copy_up=True)
        elif option in {"idmap", "ridmap"}:
            found = found._replace(idmap=option)
        elif option in _SUPERBLOCK:
            data.append((option, None))
        elif option not in _NOTHING:
            key, equals, value = option.partition("=")
            data.append((key, value if equals else None))
    return found._replace(propagation=tuple(propagation), data=tuple(data))


def _attribute(found: MountOptions, word: str, *, below: bool) -> MountOptions:
    if word in _SET:
        set_bits, clear_bits = _SET[word], 0
    elif word in _CLEAR:
        set_bits, clear_bits = 0, _CLEAR[word]
    else:
        set_bits, clear_bits = _ATIME[word], m.MOUNT_ATTR__ATIME
    if below:
        return found._replace(
            set_below=found.set_below & ~clear_bits | set_bits, clear_below=found.clear_below & ~set_bits | clear_bits
        )
    # The last word wins: `ro,rw` is writable.
    return found._replace(set=found.set & ~clear_bits | set_bits, clear=found.clear & ~set_bits | clear_bits)
