"""Who is called what in which network. In memory, made from the attachments; pure.

```
 network id ─▶ name, in lower case ─▶ endpoints        web, 3e0f9a7b1c2d, alias, and each with ".<network>" behind it
            └▶ address ─▶ name
```

A container asks from all networks that it is in, and learns of nobody in others.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from windlass.networks.attachment import Endpoint
from windlass.networks.dns import message
from windlass.networks.settings import IPAddress


class Directory:
    """The names of all networks of one daemon."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], list[Endpoint]] = {}
        self._by_address: dict[tuple[str, IPAddress], str] = {}

    def add(self, endpoint: Endpoint) -> None:
        for name in self._names(endpoint):
            self._by_name.setdefault((endpoint.network_id, name), []).append(endpoint)
        for address in self._addresses(endpoint):
            if endpoint.dns_names:
                full = f"{endpoint.dns_names[0]}.{endpoint.network_name}"
                self._by_address[endpoint.network_id, address] = full

    def discard(self, endpoint: Endpoint) -> None:
        """Forget an endpoint; one that is not known is no error."""
        for name in self._names(endpoint):
            key = (endpoint.network_id, name)
            left = [each for each in self._by_name.get(key, ()) if each.id != endpoint.id]
            if left:
                self._by_name[key] = left
            else:
                self._by_name.pop(key, None)
        for address in self._addresses(endpoint):
            self._by_address.pop((endpoint.network_id, address), None)

    @staticmethod
    def _names(endpoint: Endpoint) -> set[str]:
        names = {name.lower().rstrip(".") for name in endpoint.dns_names}
        return names | {f"{name}.{endpoint.network_name.lower()}" for name in names}

    @staticmethod
    def _addresses(endpoint: Endpoint) -> list[IPAddress]:
        return [own.ip for own in (endpoint.plug.ipv4, endpoint.plug.ipv6) if own is not None]

    def resolve(self, networks: Iterable[str], name: str) -> list[Endpoint]:
        """The endpoints of that name in the networks."""
        return [each for network in networks for each in self._by_name.get((network, name), ())]

    def answer(self, networks: Sequence[str], query: message.Query) -> bytes | None:
        """The response, None where another server is to be asked.

        A name that is ours has no addresses but ours: where it lacks the version asked for, the answer is empty.
        """
        if query.kind != message.IN:
            return None
        if query.type == message.PTR:
            return self._reverse(networks, query)
        found = self.resolve(networks, query.name)
        if not found:
            return None
        plugs = [endpoint.plug for endpoint in found]
        records: list[tuple[int, bytes]] = []
        if query.type == message.A:
            records = [(message.A, plug.ipv4.ip.packed) for plug in plugs if plug.ipv4]
        elif query.type == message.AAAA:
            records = [(message.AAAA, plug.ipv6.ip.packed) for plug in plugs if plug.ipv6]
        # Clients take the first, so all get their turn.
        random.shuffle(records)
        return message.answer(query, records)

    def _reverse(self, networks: Sequence[str], query: message.Query) -> bytes | None:
        address = message.reverse_address(query.name)
        if address is None:
            return None
        for network in networks:
            if name := self._by_address.get((network, address)):
                return message.answer(query, [(message.PTR, message.encode_name(name))])
        return None
