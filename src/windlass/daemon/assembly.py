"""From settings to an engine: which room gets what, and how each is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from windlass.daemon.settings import Settings
from windlass.daemon.subordinate import read_remap
from windlass.engine import Engine
from windlass.engine.runtimes import Runtimes
from windlass.engine.seccomp import Filters
from windlass.errors import InvalidParameter, NotImplementedByEngine
from windlass.images import Images
from windlass.images.registry.settings import registry_settings
from windlass.kernel import cgroups
from windlass.logs.options import validate_options
from windlass.networks import Networks, NetworkSettings, parse_address_pools
from windlass.runtime.client import Launcher
from windlass.volumes import Volumes

_Room = TypeVar("_Room")
_log = logging.getLogger("windlass.daemon")


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


def check(settings: Settings) -> None:
    """What only the rooms know to be wrong; better said now than at each container's start. Raises `WindlassError`."""
    if read_remap(settings.userns_remap) is not None:
        raise NotImplementedByEngine("userns-remap is not available in this engine")
    try:
        Runtimes(settings).find("")
    except InvalidParameter as error:
        raise InvalidParameter(
            f"specified default runtime {settings.default_runtime!r} is not usable: {error}"
        ) from None
    validate_options(settings.log_driver, settings.log_opts)
    registry_settings(mirrors=settings.registry_mirrors, insecure=settings.insecure_registries)
    filters = Filters(settings.exec_root / "seccomp", default=settings.seccomp_profile)
    filters.document(filters.profile_of("", privileged=False), ())
    if settings.init_path and not os.access(settings.init_path, os.X_OK):
        raise InvalidParameter(f"init-path {settings.init_path} is no executable file")


def use_proxies(settings: Settings) -> None:
    """Outgoing requests look at the environment, as dockerd's do; the flags speak louder."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        value = getattr(settings, name)
        if value:
            os.environ[name] = os.environ[name.upper()] = value


def make_room_for_groups() -> None:
    """In a container of another engine (control groups v2) our processes must leave the top group."""
    try:
        if cgroups.make_room(cgroups.detect()):
            _log.info("Moved the processes of the top control group to /init")
    except OSError as error:
        _log.warning("Containers may not get limits: %s", error)


async def open_rooms(settings: Settings) -> Rooms:
    """Open them at once; when one fails, those that did open are closed again."""
    check(settings)
    use_proxies(settings)
    make_room_for_groups()
    data = settings.data_root
    networks = network_settings(settings)
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
