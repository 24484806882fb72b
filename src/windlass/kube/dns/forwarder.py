"""What the cluster does not know: asked of the host's name servers, and remembered for a little while.

Source: RFC 1034 5.3.3 (aliases), RFC 2308 (answers that say no)
"""

from __future__ import annotations

import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from windlass.kube.dns.zone import TTL, Zone
from windlass.networks.dns import message
from windlass.networks.dns.message import Query, Record
from windlass.networks.dns.server import Resolver

_MOST: Final = 10_000
_LONGEST: Final = 30
_LONGEST_NO: Final = 5
_ID: Final = struct.Struct("!H")


class Forwarder:
    """Asks `upstream`. Names in the zone that are aliases are followed, others in it are answered there."""

    def __init__(self, zone: Zone, upstream: Resolver, clock: Callable[[], float] = time.monotonic) -> None:
        self._zone = zone
        self._upstream = upstream
        self._clock = clock
        self._cache: OrderedDict[tuple[bytes, bool], tuple[float, bytes]] = OrderedDict()

    async def ask(self, query: Query, data: bytes, *, tcp: bool) -> bytes | None:
        """See `Resolver.ask`."""
        if target := self._zone.alias(query.name):
            return await self._follow(query, target, tcp=tcp)
        return await self._remembered(query, data, tcp=tcp)

    async def _remembered(self, query: Query, data: bytes, *, tcp: bool) -> bytes | None:
        key = query.section, query.payload > message.LARGEST_UDP or tcp
        found = self._cache.get(key)
        if found is not None and found[0] > self._clock():
            self._cache.move_to_end(key)
            return _ID.pack(query.id) + found[1]
        response = await self._upstream.ask(query, data, tcp=tcp)
        if response is not None and (seconds := _lifetime(response)) > 0:
            self._cache[key] = (self._clock() + seconds, response[2:])
            self._cache.move_to_end(key)
            while len(self._cache) > _MOST:
                self._cache.popitem(last=False)
        return response

    async def _follow(self, query: Query, target: str, *, tcp: bool) -> bytes | None:
        """An alias and what its target has. One that leads to another alias ends there: who asks may ask again."""
        try:
            name = message.encode_name(target)
        except ValueError:
            return None
        records = [Record(b"", message.CNAME, TTL, name)]
        if query.type == message.CNAME:
            return message.respond(query, records)
        section = name + query.section[-4:]
        inner = query._replace(name=target, section=section)
        header = struct.pack("!6H", query.id, query.flags, 1, 0, 0, 0)
        response = self._zone.answer(inner)
        if response is None and not self._zone.alias(target):
            response = await self._remembered(inner, header + section, tcp=tcp)
        if response is not None:
            try:
                found = [each for each in message.records_of(response) if each.type == query.type]
            except message.DecodeError:
                found = []
            # Only addresses: the data of other types may refer to places in the message that it came in.
            if query.type in (message.A, message.AAAA):
                records += [each._replace(owner=name) for each in found]
        made = message.respond(query, records)
        return made if tcp or len(made) <= query.payload else message.truncated(made)


def _lifetime(response: bytes) -> int:
    """For how many seconds a response is good here."""
    code = message.code_of(response)
    if code not in (message.NOERROR, message.NXDOMAIN) or response[2] & 0x02:
        return 0
    try:
        lifetimes = [each.ttl for each in message.records_of(response)]
    except message.DecodeError:
        return 0
    return min(*lifetimes, _LONGEST) if lifetimes else _LONGEST_NO
