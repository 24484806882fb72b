"""`network ls`, `create`, `rm`, `connect`, `disconnect`."""

from __future__ import annotations

from typing import Any

from windlass.cli.client import segment
from windlass.cli.commands.create_body import pairs
from windlass.cli.commands.lifecycle import for_each
from windlass.cli.commands.ps import parse_filters
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.tables import print_rows


def run_ls(options: Options) -> int:
    """`windlass network ls`."""
    networks = options.client.json("GET", "/networks", query={"filters": parse_filters(options.filter)})
    rows = []
    for network in sorted(networks, key=lambda network: network["Name"]):
        labels = network.get("Labels") or {}
        rows.append(
            {
                "ID": network["Id"] if options.no_trunc else network["Id"][:12],
                "Name": network["Name"],
                "Driver": network["Driver"],
                "Scope": network["Scope"],
                "IPv6": str(network.get("EnableIPv6", False)).lower(),
                "Internal": str(network.get("Internal", False)).lower(),
                "CreatedAt": network.get("Created", ""),
                "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
                "Label": lambda name, labels=labels: labels.get(name, ""),
            }
        )
    quiet = "ID" if options.quiet else None
    titles = {"ID": "NETWORK ID", "CreatedAt": "CREATED AT"}
    print_rows(
        rows, columns=("ID", "Name", "Driver", "Scope"), titles=titles, template=options.format, quiet_field=quiet
    )
    return 0


def run_create(options: Options) -> int:
    """`windlass network create`."""
    configs = []
    for index, subnet in enumerate(options.subnet):
        config: dict[str, Any] = {"Subnet": subnet}
        if index < len(options.gateway):
            config["Gateway"] = options.gateway[index]
        if index < len(options.ip_range):
            config["IPRange"] = options.ip_range[index]
        if options.aux_address:
            config["AuxiliaryAddresses"] = pairs(options.aux_address)
        configs.append(config)
    body = {
        "Name": options.args[0],
        "Driver": options.driver,
        "Internal": options.internal,
        "Attachable": options.attachable,
        "EnableIPv6": options.ipv6,
        "IPAM": {"Driver": options.ipam_driver, "Config": configs, "Options": pairs(options.ipam_opt)},
        "Options": pairs(options.opt),
        "Labels": pairs(options.label),
    }
    print(options.client.json("POST", "/networks/create", body=body)["Id"])
    return 0


def run_rm(options: Options) -> int:
    """`windlass network rm`."""

    def remove(name: str) -> str:
        options.client.request("DELETE", f"/networks/{segment(name)}").read()
        return name

    return for_each(options, options.args, remove)


def run_connect(options: Options) -> int:
    """`windlass network connect`."""
    network, container = options.args
    endpoint: dict[str, Any] = {"Aliases": options.alias or None, "DriverOpts": pairs(options.driver_opt)}
    if options.ip or options.ip6:
        endpoint["IPAMConfig"] = {"IPv4Address": options.ip, "IPv6Address": options.ip6}
    body = {"Container": container, "EndpointConfig": endpoint}
    options.client.request("POST", f"/networks/{segment(network)}/connect", body=body).read()
    return 0


def run_disconnect(options: Options) -> int:
    """`windlass network disconnect`."""
    network, container = options.args
    body = {"Container": container, "Force": options.force}
    options.client.request("POST", f"/networks/{segment(network)}/disconnect", body=body).read()
    return 0


COMMANDS = {
    "ls": Command(
        "network ls",
        "[OPTIONS]",
        "List networks",
        run_ls,
        (
            Flag("filter", "list", 'Provide filter values (e.g. "driver=bridge")', "f"),
            Flag("format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
            Flag("no-trunc", "bool", "Do not truncate the output"),
            Flag("quiet", "bool", "Only display network IDs", "q"),
        ),
        aliases="windlass network ls, windlass network list",
    ),
    "create": Command(
        "network create",
        "[OPTIONS] NETWORK",
        "Create a network",
        run_create,
        (
            Flag("attachable", "bool", "Enable manual container attachment"),
            Flag("aux-address", "list", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
            Flag("driver", "string", "Driver to manage the Network", "d", "bridge"),
            Flag("gateway", "list", "IPv4 or IPv6 Gateway for the master subnet"),
            Flag("internal", "bool", "Restrict external access to the network"),
            Flag("ip-range", "list", "Allocate container ip from a sub-range"),
            Flag("ipam-driver", "string", "IP Address Management Driver", default="default"),
            Flag("ipam-opt", "list", "Set IPAM driver specific options"),
            Flag("ipv6", "bool", "Enable or disable IPv6 address assignment"),
            Flag("label", "list", "Set metadata on a network"),
            Flag("opt", "list", "Set driver specific options", "o"),
            Flag("subnet", "list", "Subnet in CIDR format that represents a network segment"),
        ),
        1,
        1,
    ),
    "rm": Command(
        "network rm",
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        run_rm,
        (Flag("force", "bool", "Do not error if the network does not exist", "f"),),
        1,
        None,
        aliases="windlass network rm, windlass network remove",
    ),
    "connect": Command(
        "network connect",
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        run_connect,
        (
            Flag("alias", "list", "Add network-scoped alias for the container"),
            Flag("driver-opt", "list", "driver options for the network"),
            Flag("ip", "string", 'IPv4 address (e.g., "172.30.100.104")'),
            Flag("ip6", "string", 'IPv6 address (e.g., "2001:db8::33")'),
        ),
        2,
        2,
    ),
    "disconnect": Command(
        "network disconnect",
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        run_disconnect,
        (Flag("force", "bool", "Force the container to disconnect from a network", "f"),),
        2,
        2,
    ),
}
