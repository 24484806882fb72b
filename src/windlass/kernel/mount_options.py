"""Mount options as words, and what they are to the kernel. Pure.

The words are those of the OCI runtime specification (config.md, "Linux mount options") and of mount(8). To the new
mount API an option is one of four things:

    an attribute of the mount              nosuid, ro, relatime …       mount_setattr: set these bits, clear those
    …of all mounts below as well           rro, rnosuid …               the same with AT_RECURSIVE
    its propagation                        rslave, shared …             the same call, in a field of its own
    a parameter of the file system         size=64k, mode=755, sync …   fsconfig

and a few that say what to do at all: bind, rbind, remount, idmap, ridmap, tmpcopyup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

MOUNT_ATTR_RDONLY: Final = 0x00000001
MOUNT_ATTR_NOSUID: Final = 0x00000002
MOUNT_ATTR_NODEV: Final = 0x00000004
MOUNT_ATTR_NOEXEC: Final = 0x00000008
MOUNT_ATTR_ATIME: Final = 0x00000070
MOUNT_ATTR_RELATIME: Final = 0x00000000
MOUNT_ATTR_NOATIME: Final = 0x00000010
MOUNT_ATTR_STRICTATIME: Final = 0x00000020
MOUNT_ATTR_NODIRATIME: Final = 0x00000080
MOUNT_ATTR_IDMAP: Final = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x00200000

MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

# word: (bits to set, bits to clear)
ATTRIBUTES: Final[dict[str, tuple[int, int]]] = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
    # The access time is one field: whoever sets a value clears the whole field (mount_setattr(2)).
    "relatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME),
    "norelatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME),
    "atime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "nostrictatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME),
}
PROPAGATIONS: Final[dict[str, tuple[int, bool]]] = {
    "shared": (MS_SHARED, False),
    "rshared": (MS_SHARED, True),
    "slave": (MS_SLAVE, False),
    "rslave": (MS_SLAVE, True),
    "private": (MS_PRIVATE, False),
    "rprivate": (MS_PRIVATE, True),
    "unbindable": (MS_UNBINDABLE, False),
    "runbindable": (MS_UNBINDABLE, True),
}
"""Word: (the kernel's type, also for the mounts below)."""
_RECURSIVE: Final = {
    f"r{word}": word
    for word in (
        "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "nodiratime", "diratime", "nosymfollow",
        "symfollow", "relatime", "norelatime", "noatime", "atime", "strictatime", "nostrictatime",
    )
}  # fmt: skip
_NOTHING: Final = frozenset({"defaults", "loud", "iversion", "noiversion", "async", "nomand", "nolazytime", "silent"})
"""Words without an effect on a new mount: defaults, and what the kernel no longer has."""

_MODES: Final = frozenset({"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"})


class MountOptions(NamedTuple):
    """A list of options, taken apart.

    `set`/`clear` are for the mount itself, `recursive_set`/`recursive_clear` for it and all below it; `propagation` is
    (type, recursive), (0, False) for none given; `data` goes to the file system, a value None being a flag.
    """

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagations: tuple[tuple[int, bool], ...] = ()
    data: tuple[tuple[str, str | None], ...] = ()
    bind: bool = False
    recursive_bind: bool = False
    remount: bool = False
    idmap: bool = False
    recursive_idmap: bool = False
    copy_up: bool = False

    def with_propagation(self, propagation: tuple[int, bool]) -> MountOptions:
        """The same options with this propagation."""
        return self._replace(propagations=(propagation,))

    @property
    def read_only(self) -> bool:
        """Whether the mount itself cannot be written."""
        return bool((self.set | self.recursive_set) & MOUNT_ATTR_RDONLY)


def parse_options(options: Iterable[str]) -> MountOptions:
    """Take a list of options apart; of contradicting words the last one counts. What is not known here is the file
    system's, so this cannot fail: the kernel refuses what it does not know, too."""
    own, below = (0, 0), (0, 0)
    propagations: list[tuple[int, bool]] = []
    data: list[tuple[str, str | None]] = []
    modes: set[str] = set()
    for word in options:
        if word in ATTRIBUTES:
            own = _combine(own, ATTRIBUTES[word])
        elif word in _RECURSIVE:
            below = _combine(below, ATTRIBUTES[_RECURSIVE[word]])
        elif word in PROPAGATIONS:
            propagations.append(PROPAGATIONS[word])
        elif word in _MODES:
            modes.add(word)
        elif word and word not in _NOTHING:
            key, separator, value = word.partition("=")
            data.append((key, value if separator else None))
    return MountOptions(
        set=own[0],
        clear=own[1],
        recursive_set=below[0],
        recursive_clear=below[1],
        propagations=tuple(propagations),
        data=tuple(data),
        bind=bool(modes & {"bind", "rbind"}),
        recursive_bind="rbind" in modes,
        remount="remount" in modes,
        idmap=bool(modes & {"idmap", "ridmap"}),
        recursive_idmap="ridmap" in modes,
        copy_up="tmpcopyup" in modes,
    )


def _combine(bits: tuple[int, int], change: tuple[int, int]) -> tuple[int, int]:
    to_set, to_clear = change
    return (bits[0] & ~to_clear | to_set), (bits[1] & ~to_set | to_clear)
