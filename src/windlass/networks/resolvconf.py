"""The content of a container's /etc/resolv.conf, from the host's and the options of the container. Pure functions.

- The host's name servers on loopback addresses mean nothing inside another network namespace, so they are left out;
  where systemd-resolved listens there, `host_path` names the file in which it keeps the real ones.
- `--dns`, `--dns-search` and `--dns-option` replace the host's lines of that kind; `--dns-search .` is no search.
- With nothing left, public servers stand in, as dockerd has it.

See resolv.conf(5), systemd-resolved.service(8).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from windlass.networks.settings import IPAddress

HOST_PATH = "/etc/resolv.conf"
RESOLVED_PATH = "/run/systemd/resolve/resolv.conf"
_RESOLVED_STUB = ipaddress.IPv4Address("127.0.0.53")
FALLBACK_V4 = ("8.8.8.8", "8.8.4.4")
FALLBACK_V6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")


class ResolvConf(NamedTuple):
    """The directives of a resolv.conf; `other` are lines that we do not know and pass on."""

    nameservers: tuple[IPAddress, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """Read what resolver libraries would read: the last `search` counts, name servers that are no addresses do not."""
    nameservers: list[IPAddress] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    other: list[str] = []
    # Not splitlines(): that also ends lines at characters which are none to a resolver.
    for line in text.replace("\r\n", "\n").split("\n"):
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        keyword, values = words[0], words[1:]
        if keyword == "nameserver":
            try:
                nameservers += [ipaddress.ip_address(value) for value in values[:1]]
            except ValueError:
                continue
        elif keyword in {"search", "domain"}:
            search = tuple(values) or search
        elif keyword == "options":
            options += values
        else:
            other.append(line.strip())
    return ResolvConf(tuple(nameservers), search, tuple(options), tuple(other))


def host_path(text: str) -> str:
    """Where the host's real name servers stand, given the text of /etc/resolv.conf."""
    return RESOLVED_PATH if parse(text).nameservers == (_RESOLVED_STUB,) else HOST_PATH


def for_container(
    host: ResolvConf,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    ipv6: bool = False,
) -> ResolvConf:
    """What a container with a network namespace of its own, and no name server of ours, gets.

    `ipv6` says whether it has IPv6 connectivity. Raises ValueError where a server in `dns` is no address.
    """
    chosen = overridden(host, dns=dns, search=search, options=options)
    if dns:
        return chosen
    servers = tuple(each for each in host.nameservers if not each.is_loopback and (each.version == 4 or ipv6))
    if not servers:
        fallback = FALLBACK_V4 + (FALLBACK_V6 if ipv6 else ())
        servers = tuple(ipaddress.ip_address(each) for each in fallback)
    return chosen._replace(nameservers=servers)


def overridden(
    host: ResolvConf, *, dns: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
) -> ResolvConf:
    """The host's file with the container's options in place; all that a container in the host's namespace needs.

    Raises ValueError where a server in `dns` is no address.
    """
    return ResolvConf(
        nameservers=tuple(ipaddress.ip_address(each) for each in dns) if dns else host.nameservers,
        search=tuple(each for each in search if each != ".") if search else host.search,
        options=tuple(options) if options else host.options,
        other=host.other,
    )


def for_internal_resolver(
    host: ResolvConf, resolver: IPAddress, *, search: Sequence[str] = (), options: Sequence[str] = (), ndots: int = 0
) -> ResolvConf:
    """What a container gets whose network has a name server of its own at `resolver`, which asks the others for it."""
    chosen = overridden(host, search=search, options=options)
    kept = tuple(each for each in chosen.options if not each.startswith("ndots:") or each[6:].isdecimal())
    if not any(each.startswith("ndots:") for each in kept):
        kept += (f"ndots:{ndots}",)
    return chosen._replace(nameservers=(resolver,), options=kept)


def render(conf: ResolvConf) -> str:
    """The file's text; `parse` reads the same back."""
    lines = [f"nameserver {server}" for server in conf.nameservers]
    if conf.search:
        lines.append(f"search {' '.join(conf.search)}")
    if conf.options:
        lines.append(f"options {' '.join(conf.options)}")
    lines += conf.other
    return "".join(f"{line}\n" for line in lines)
