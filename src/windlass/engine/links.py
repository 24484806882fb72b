"""Links, the old way to call another container by a name: lines in /etc/hosts, on the default bridge and elsewhere.

    --link db:database        on the default bridge; the other one must run
    EndpointSettings.Links    in a network that somebody made; whoever is not there is left out

The lines follow the other container's address when it starts again.
"""

from __future__ import annotations

from collections.abc import Iterator

from windlass.engine import modes
from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.errors import InvalidParameter, NotFound
from windlass.networks.attachment import Attachment
from windlass.networks.etchosts import Entry


def parse_link(text: str) -> tuple[str, str]:
    """The container and the name for it in `container:alias`. Raises `InvalidParameter`."""
    name, colon, alias = text.partition(":")
    if not name or ":" in alias or (colon and not alias):
        raise InvalidParameter(f"bad format for links: {text}")
    return name, (alias or name).rpartition("/")[2]


def check(core: Core, links: list[str] | None) -> None:
    """Check the links of a container on the default bridge. Raises `InvalidParameter`."""
    for text in links or ():
        name, _ = parse_link(text)
        try:
            other = core.store.find(name)
        except NotFound as error:
            raise InvalidParameter(f"could not get container for {name}: {error}") from None
        if other.network_mode == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. This would result in undefined "
                "behavior"
            )


def shown(core: Core, container: Container) -> list[str] | None:
    """`HostConfig.Links` as `docker inspect` has it."""
    found = []
    for other, alias in _on_bridge(core, container):
        found.append(f"/{other.name}:/{container.name}/{alias}")
    return found or None


def entries(core: Core, container: Container, attachment: Attachment) -> list[Entry]:
    """The lines for a container that is about to start, or runs. Raises `InvalidParameter` for one that must run."""
    found: list[Entry] = []
    for other, alias in _on_bridge(core, container):
        if not other.state.running:
            raise InvalidParameter(
                f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}"
            )
        found += _entries(core, other, alias, modes.DEFAULT_NETWORK)
    for network, endpoint in attachment.endpoints.items():
        for text in endpoint.config.links:
            name, alias = parse_link(text)
            try:
                found += _entries(core, core.store.find(name), alias, network)
            except NotFound:
                continue
    return found


def of(container: Container) -> list[str]:
    """The containers that it has links to, as they were named."""
    texts = [*(container.host_config["Links"] or ())]
    for endpoint in container.endpoints.values():
        texts += endpoint.get("Links") or ()
    return [parse_link(text)[0] for text in texts]


def means(reference: str, container: Container) -> bool:
    """Whether a link goes to this container."""
    reference = reference.removeprefix("/")
    return reference == container.name or (len(reference) >= 12 and container.id.startswith(reference))


def _on_bridge(core: Core, container: Container) -> Iterator[tuple[Container, str]]:
    if modes.is_user_network(container.network_mode):
        return
    for text in container.host_config["Links"] or ():
        name, alias = parse_link(text)
        try:
            yield core.store.find(name), alias
        except NotFound:
            continue


def _entries(core: Core, other: Container, alias: str, network: str) -> list[Entry]:
    attachment = core.networks.attachment(other.id)
    endpoint = attachment.endpoints.get(network) if attachment is not None else None
    if endpoint is None:
        return []
    names = " ".join(dict.fromkeys((alias, other.config["Hostname"] or other.id[:12], other.name)))
    return [Entry(str(own.ip), names) for own in (endpoint.plug.ipv4, endpoint.plug.ipv6) if own is not None]
