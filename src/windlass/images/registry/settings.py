"""Which addresses serve a registry name, and how they may be spoken to.

    docker.io          →  each mirror in turn, then https://registry-1.docker.io
    registry.example   →  https://registry.example
    an insecure one    →  https (any certificate), then plain http

Insecure are: the hosts and networks of `--insecure-registry`, and loopback (`127.0.0.0/8`, `::1/128`), as in dockerd. A
name is resolved to see whether it lies in an insecure network; if it cannot be resolved it is secure.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from windlass.errors import InvalidParameter
from windlass.oci.reference import DEFAULT_DOMAIN

DEFAULT_REGISTRY: Final = "registry-1.docker.io"
INDEX_HOST: Final = "index.docker.io"
INDEX_SERVER: Final = "https://index.docker.io/v1/"
"""The key of Docker Hub's credentials, wherever credentials are kept."""
CERTIFICATE_DIRECTORIES: Final = (Path("/etc/windlass/certs.d"), Path("/etc/docker/certs.d"))

_LOOPBACK: Final = ("::1/128", "127.0.0.0/8")
_HOST_PORT: Final = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[a-fA-F0-9:]+\])(?::([0-9]+))?", re.ASCII
)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Endpoint:
    """One base address to try."""

    url: str
    """Scheme, host, port and perhaps a path; no slash at the end."""
    host: str
    """`host[:port]`, the name of the certificate directory."""
    verify: bool = True
    """Whether the server's certificate is checked."""
    mirror: bool = False

    @property
    def plain(self) -> bool:
        """Whether this is HTTP without TLS."""
        return self.url.startswith("http://")


@dataclass(frozen=True)
class RegistrySettings:
    """What the daemon's flags and daemon.json say about registries.

    Built by `registry_settings`, which checks the texts; `SIGHUP` makes a new one.
    """

    mirrors: tuple[str, ...] = ()
    insecure_hosts: frozenset[str] = frozenset()
    insecure_networks: tuple[_Network, ...] = tuple(ipaddress.ip_network(text) for text in _LOOPBACK)
    certificate_directories: tuple[Path, ...] = CERTIFICATE_DIRECTORIES
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_attempts: int = 5
    """Tries of one transfer without a byte of progress."""

    def to_json(self) -> dict[str, object]:
        """The `RegistryConfig` of `/info`."""
        configs: dict[str, object] = {
            host: {"Name": host, "Mirrors": [], "Secure": False, "Official": False} for host in self.insecure_hosts
        }
        configs[DEFAULT_DOMAIN] = {
            "Name": DEFAULT_DOMAIN,
            "Mirrors": list(self.mirrors),
            "Secure": True,
            "Official": True,
        }
        return {
            "AllowNondistributableArtifactsCIDRs": None,
            "AllowNondistributableArtifactsHostnames": None,
            "InsecureRegistryCIDRs": [str(network) for network in self.insecure_networks],
            "IndexConfigs": configs,
            "Mirrors": list(self.mirrors),
        }


def registry_settings(
    *,
    mirrors: Sequence[str] = (),
    insecure: Sequence[str] = (),
    certificate_directories: Sequence[Path] = CERTIFICATE_DIRECTORIES,
    max_concurrent_downloads: int = 3,
    max_concurrent_uploads: int = 5,
    max_attempts: int = 5,
) -> RegistrySettings:
    """Check the texts of flags and build the settings. Raises `InvalidParameter` with dockerd's message."""
    hosts: set[str] = set()
    networks: list[_Network] = []
    for text in (*insecure, *_LOOPBACK):
        item = _insecure_item(text)
        if isinstance(item, str):
            hosts.add(item)
        elif item not in networks:
            networks.append(item)
    return RegistrySettings(
        mirrors=tuple(dict.fromkeys(check_mirror(mirror) for mirror in mirrors)),
        insecure_hosts=frozenset(hosts),
        insecure_networks=tuple(networks),
        certificate_directories=tuple(certificate_directories),
        max_concurrent_downloads=max_concurrent_downloads,
        max_concurrent_uploads=max_concurrent_uploads,
        max_attempts=max_attempts,
    )


def check_mirror(text: str) -> str:
    """The normal form of a mirror's URL (a slash at the end). Raises `InvalidParameter`."""
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme:
        raise InvalidParameter(
            f"invalid mirror: no scheme specified for \"{text}\": must use either 'https://' or 'http://'"
        )
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for what is not a number
    except ValueError:
        raise InvalidParameter(f'invalid mirror: "{text}" is not a valid URI') from None
    if parts.scheme not in ("http", "https"):
        raise InvalidParameter(
            f"invalid mirror: unsupported scheme \"{parts.scheme}\" in \"{text}\": must use either 'https://' or 'http://'"
        )
    if parts.query or parts.fragment:
        raise InvalidParameter(f'invalid mirror: query or fragment at end of the URI "{text}"')
    if parts.username is not None:
        raise InvalidParameter(
            f'invalid mirror: username/password not allowed in URI "{parts.scheme}://{parts.hostname}"'
        )
    if not parts.hostname:
        raise InvalidParameter(f'invalid mirror: "{text}" is not a valid URI')
    return text.rstrip("/") + "/"


async def endpoints(settings: RegistrySettings, domain: str, *, mirrors: bool = True) -> list[Endpoint]:
    """The addresses to try for a registry name, best first."""
    if domain in (DEFAULT_DOMAIN, INDEX_HOST):
        found = []
        for mirror in settings.mirrors if mirrors else ():
            host = urlsplit(mirror).netloc
            found.append(Endpoint(mirror.rstrip("/"), host, await is_secure(settings, host), mirror=True))
        return [*found, Endpoint(f"https://{DEFAULT_REGISTRY}", DEFAULT_REGISTRY)]
    if await is_secure(settings, domain):
        return [Endpoint(f"https://{domain}", domain)]
    return [Endpoint(f"https://{domain}", domain, verify=False), Endpoint(f"http://{domain}", domain, verify=False)]


async def is_secure(settings: RegistrySettings, host: str) -> bool:
    """Whether this `host[:port]` must show a certificate that we trust."""
    if host == DEFAULT_DOMAIN:
        return True
    if host in settings.insecure_hosts:
        return False
    name = _without_port(host)
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    try:
        addresses.append(ipaddress.ip_address(name))
    except ValueError:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return True
        addresses += [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return not any(address in network for address in addresses for network in settings.insecure_networks)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _insecure_item(text: str) -> str | _Network:
    if text.startswith("-") or text.endswith("-"):
        raise InvalidParameter(f"invalid index name ({text}). Cannot begin or end with a hyphen")
    item = re.sub(r"^https?://", "", text, flags=re.IGNORECASE)
    if "://" in item:
        raise InvalidParameter(f"insecure registry {text} should not contain '://'")
    if "/" in item:
        try:
            return ipaddress.ip_network(item, strict=False)
        except ValueError:
            raise InvalidParameter(f'insecure registry {text} is not valid: invalid host "{item}"') from None
    match = _HOST_PORT.fullmatch(item)
    if match is None and not _is_address(item):
        raise InvalidParameter(f'insecure registry {text} is not valid: invalid host "{item}"')
    if match and match[1] and int(match[1]) > 65535:
        raise InvalidParameter(f'insecure registry {text} is not valid: invalid port "{match[1]}"')
    return item


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
