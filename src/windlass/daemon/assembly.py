"""From settings to an engine: which room gets what, and how each is closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from windlass.daemon.settings import Settings
from windlass.daemon.subordinate import read_remap
from windlass.engine import Engine
from windlass.errors import NotImplementedByEngine
from windlass.images import Images
from windlass.networks import Networks, NetworkSettings, parse_address_pools
from windlass.runtime.client import Launcher
from windlass.volumes import Volumes

_Room = TypeVar("_Room")


@dataclass
class Rooms:
    """The open rooms; `closers` are to be called last first."""

    launcher: Launcher
    images: Images
    networks: Networks
    volumes: Volumes
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


def network_settings(settings: Settings) -> NetworkSettings:
    """What the daemon's flags say about networks. Raises `InvalidParameter`."""
    return NetworkSettings(
        bridge=settings.bridge,
        bip=settings.bip,
        bip6=settings.bip6,
        fixed_cidr=settings.fixed_cidr,
        fixed_cidr_v6=settings.fixed_cidr_v6,
        default_gateway=settings.default_gateway,
        default_gateway_v6=settings.default_gateway_v6,
        default_address_pools=parse_address_pools(settings.default_address_pools),
        mtu=settings.mtu,
        icc=settings.icc,
        ip_masq=settings.ip_masq,
        iptables=settings.iptables,
        ip6tables=settings.ip6tables,
        ip_forward=settings.ip_forward,
        ip_forward_no_drop=settings.ip_forward_no_drop,
        enable_ipv6=settings.ipv6,
        ip=settings.ip,
        host_gateway_ips=settings.host_gateway_ips,
        userland_proxy=settings.userland_proxy,
    )


async def open_rooms(settings: Settings) -> Rooms:
    """Open them at once; when one fails, those that did open are closed again."""
    data = settings.data_root
    networks = network_settings(settings)
    if read_remap(settings.userns_remap) is not None:
        raise NotImplementedByEngine("userns-remap is not available in this engine; use --userns of single containers")
    async with contextlib.AsyncExitStack() as stack:

        async def keep(opening: Coroutine[Any, Any, _Room], close: Callable[[_Room], Awaitable[None]]) -> _Room:
            room = await opening
            stack.push_async_callback(close, room)
            return room

        launcher, images, network, volumes = await asyncio.gather(
            keep(Launcher.start(settings.exec_root), Launcher.close),
            keep(Images.open(data / "images", driver=settings.storage_driver or None), Images.close),
            keep(Networks.open(data / "networks", settings.exec_root, networks), Networks.close),
            keep(Volumes.open(data / "volumes"), Volumes.close),
        )
        return Rooms(launcher, images, network, volumes, closers=[stack.pop_all().aclose])
    raise AssertionError("unreachable")


def make_engine(settings: Settings, rooms: Rooms) -> Engine:
    """The engine over its rooms."""
    return Engine(
        settings=settings,
        images=rooms.images,
        networks=rooms.networks,
        volumes=rooms.volumes,
        launcher=rooms.launcher,
    )
