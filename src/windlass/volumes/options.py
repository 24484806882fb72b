"""The local driver's options: a file system that is mounted when the volume is first used. Pure.

    type=tmpfs  device=tmpfs            o=size=100m,uid=1000
    type=nfs    device=:/exported/path  o=addr=10.0.0.1,rw
    type=none   device=/srv/data        o=bind

They are mount(8)'s words, handed to the kernel as they are. `size` alone asks for a quota on the directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from windlass.errors import InvalidParameter

_KNOWN: Final = frozenset({"type", "o", "device", "size"})
_NEEDS: Final = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

# mount(2)'s flags, as they appear in messages.
_FLAGS: Final = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "sync": 0x10, "noatime": 0x400, "nodiratime": 0x800,
    "bind": 0x1000, "rbind": 0x5000, "relatime": 0x200000, "strictatime": 0x1000000,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalMount:
    """What is mounted on the volume's directory."""

    type: str
    device: str
    options: tuple[str, ...]

    def address_name(self) -> str | None:
        """The host of `addr=`, which the kernel wants as a number; None where nothing is to be resolved."""
        if not self.type.startswith(("nfs", "cifs")):
            return None
        return next((word.removeprefix("addr=") for word in self.options if word.startswith("addr=")), None)

    def with_address(self, address: str) -> LocalMount:
        """The same, with the host of `addr=` as a number."""
        words = tuple(f"addr={address}" if word.startswith("addr=") else word for word in self.options)
        return LocalMount(type=self.type, device=self.device, options=words)

    def describe(self, target: str) -> str:
        """The call as messages show it: `mount SOURCE:TARGET, flags: 0x1000, data: …`."""
        flags, data = 0, []
        for word in self.options:
            if word in _FLAGS:
                flags |= _FLAGS[word]
            elif word:
                data.append(word)
        text = f"mount {self.device}:{target}" if self.device else f"mount {target}"
        text += f", flags: {flags:#x}" if flags else ""
        return text + (f", data: {','.join(data)}" if data else "")


def parse_size(text: str) -> int:
    """`100m`, `1.5 GiB`, `4096`: bytes, with units of 1024. Raises `InvalidParameter`."""
    match = _SIZE.fullmatch(text)
    if not match or len(text) > 32:
        raise InvalidParameter(f"invalid size: '{text:.80}'")
    return int(float(match[1]) * 1024 ** _UNITS[match[2].lower()])


def _check_device(options: Mapping[str, str]) -> None:
    if options.get("type") != "cifs" or not options.get("device"):
        return
    try:
        port = urlsplit(options["device"]).port
    except ValueError:
        raise InvalidParameter(f"error parsing mount device url: {options['device']!r}") from None
    if port:
        raise InvalidParameter("port not allowed in CIFS device URL, include 'port' in 'o='")


def check_options(options: Mapping[str, str]) -> None:
    """Raises `InvalidParameter` unless the local driver can work with them."""
    for name in options:
        if name not in _KNOWN:
            raise InvalidParameter(f'invalid option: "{name}"')
    for name, value in options.items():
        if "\0" in value:
            raise InvalidParameter(f'invalid value of option "{name}"')
    _check_device(options)
    if (size := options.get("size")) is not None and parse_size(size) > 0:
        # That would take project quotas, which hardly a host has on: better an error than a limit that does not hold.
        raise InvalidParameter("quota size requested but no quota support")
    for name, others in _NEEDS.items():
        for other in others:
            if name in options and other not in options:
                raise InvalidParameter(f'missing required option: "{other}"')


def local_mount(options: Mapping[str, str]) -> LocalMount | None:
    """What the options ask to mount; None for a volume that is just a directory."""
    if not options.get("type") or not options.get("device"):
        return None
    words = tuple(word for word in options.get("o", "").split(",") if word)
    return LocalMount(type=options["type"], device=options["device"], options=words)
