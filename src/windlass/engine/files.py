"""The files by which a container knows itself and its network: hostname, hosts, resolv.conf. Texts, mostly pure."""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windlass.engine.settings import EngineSettings
from windlass.errors import InvalidParameter, SystemFailure
from windlass.networks import etchosts, resolvconf
from windlass.networks.attachment import Attachment

HOSTS = "/etc/hosts"
_LARGEST_NAME_FILE = 1 << 20


class HostFile:
    """A file of the host that is read again only when it changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    def read(self) -> str:
        """Its text, empty if there is none."""
        try:
            status = os.stat(self._path)
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._text = file.read(1 << 20)
                self._seen = seen
        except OSError:
            return ""
        return self._text


class NameFiles:
    """Makes the texts."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._hosts = HostFile(HOSTS)
        self._resolv = HostFile(resolvconf.HOST_PATH)
        self._resolved = HostFile(resolvconf.RESOLVED_PATH)

    def hosts(
        self,
        config: Mapping[str, Any],
        host_config: Mapping[str, Any],
        attachment: Attachment,
        gateway: Sequence[str],
        linked: Sequence[etchosts.Entry] = (),
    ) -> str:
        """The container's /etc/hosts; `gateway` is what `host-gateway` means. Raises `InvalidParameter`."""
        extra = [
            entry for text in host_config["ExtraHosts"] or () for entry in etchosts.parse_extra_host(text, gateway)
        ]
        if host_config["NetworkMode"] == "host":
            text = self._hosts.read() or etchosts.render()
            lines = "".join(f"{entry.address}\t{entry.names}\n" for entry in extra)
            return text + ("" if text.endswith("\n") or not lines else "\n") + lines
        names = etchosts.own_names(config["Hostname"], config["Domainname"])
        own = [etchosts.Entry(str(address), names) for address in attachment.addresses()]
        return etchosts.render(own=own, extra=[*extra, *linked])

    def resolv_conf(self, host_config: Mapping[str, Any], attachment: Attachment) -> str:
        """The container's /etc/resolv.conf. Raises `InvalidParameter`."""
        settings = self._settings
        text = self._resolv.read()
        dns = host_config["Dns"] or settings.dns
        search = host_config["DnsSearch"] or settings.dns_search
        options = host_config["DnsOptions"] or settings.dns_opts
        try:
            if host_config["NetworkMode"] == "host":
                conf = resolvconf.overridden(resolvconf.parse(text), dns=dns, search=search, options=options)
            elif attachment.resolver:
                # It answers for the network, and asks the others on the container's behalf.
                conf = resolvconf.for_internal_resolver(
                    resolvconf.parse(text), ipaddress.ip_address(attachment.resolver), search=search, options=options
                )
            else:
                if resolvconf.host_path(text) == resolvconf.RESOLVED_PATH:
                    text = self._resolved.read() or text
                ipv6 = any(address.version == 6 for address in attachment.addresses())
                conf = resolvconf.for_container(
                    resolvconf.parse(text), dns=dns, search=search, options=options, ipv6=ipv6
                )
        except ValueError as error:
            raise InvalidParameter(str(error)) from None
        return resolvconf.render(conf)


def write_file(path: str, data: bytes) -> None:
    """Write a small file. Raises `SystemFailure`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SystemFailure(str(error)) from error


def write_whole_file(path: str, data: bytes) -> None:
    """As `write_file`; nobody ever sees a part of it. Raises `SystemFailure`."""
    write_file(f"{path}.draft", data)
    os.rename(f"{path}.draft", path)


def rewrite_file(path: str, edit: Callable[[str], str]) -> None:
    """Change a small file in place: it is mounted in a container, which sees this file and no other.

    The container may write to it as well, so that its text is a stranger's. Raises `OSError`, `SystemFailure`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        data = os.pread(descriptor, _LARGEST_NAME_FILE + 1, 0)
        if len(data) > _LARGEST_NAME_FILE:
            raise SystemFailure(f"{path} has more than {_LARGEST_NAME_FILE} bytes")
        text = data.decode(errors="surrogateescape")
        new = edit(text)
        if new != text:
            encoded = new.encode(errors="surrogateescape")
            os.pwrite(descriptor, encoded, 0)
            os.ftruncate(descriptor, len(encoded))
    finally:
        os.close(descriptor)
