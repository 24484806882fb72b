"""From the flags of `run` and `create` to the body of POST /containers/create.

Each small grammar (ports, mounts, devices, limits) has a function; all raise ValueError with docker's words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from windlass.cli.flags import Options
from windlass.cli.units import parse_bytes

Json = dict[str, Any]


def create_body(options: Options) -> Json:
    """The body: Config with HostConfig and NetworkingConfig in it."""
    image, *command = options.args
    attach = [name.lower() for name in options.attach]
    for name in attach:
        if name not in {"stdin", "stdout", "stderr"}:
            raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    exposed, bindings = parse_ports(options.publish)
    for port in options.expose:
        exposed.update({name: {} for name in _exposed(port)})
    networks = [*options.network, *options.net]
    detached = getattr(options, "detach", False) if any(f.name == "detach" for f in options.command.flags) else False
    body: Json = {
        "Image": image,
        "Hostname": options.hostname,
        "Domainname": options.domainname,
        "User": options.user,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive and not detached,
        "AttachStdin": not detached and ("stdin" in attach or (not attach and options.interactive)),
        "AttachStdout": not detached and (not attach or "stdout" in attach),
        "AttachStderr": not detached and (not attach or "stderr" in attach),
        "Env": environment(options.env, options.env_file),
        "Cmd": command or None,
        "Entrypoint": None,
        "Volumes": {},
        "WorkingDir": options.workdir,
        "Labels": labels(options.label, options.label_file),
        "ExposedPorts": exposed,
        "HostConfig": host_config(options, bindings, networks),
        "NetworkingConfig": {"EndpointsConfig": endpoints(options, networks)},
    }
    if options.given("entrypoint"):
        body["Entrypoint"] = [options.entrypoint] if options.entrypoint else [""]
    if options.mac_address:
        body["MacAddress"] = options.mac_address
    if options.stop_signal:
        body["StopSignal"] = options.stop_signal
    if options.given("stop_timeout"):
        body["StopTimeout"] = options.stop_timeout
    if health := healthcheck(options):
        body["Healthcheck"] = health
    for volume in options.volume:
        if ":" not in volume:
            body["Volumes"][volume] = {}
    return body


def host_config(options: Options, bindings: Json, networks: list[str]) -> Json:
    """HostConfig."""
    config: Json = {
        "Binds": [bind(volume) for volume in options.volume if ":" in volume] or None,
        "ContainerIDFile": options.cidfile,
        "NetworkMode": _network_name(networks[0]) if networks else "default",
        "PortBindings": bindings,
        "RestartPolicy": restart_policy(options.restart),
        "AutoRemove": options.rm,
        "VolumeDriver": options.volume_driver,
        "VolumesFrom": options.volumes_from or None,
        "CapAdd": options.cap_add or None,
        "CapDrop": options.cap_drop or None,
        "CgroupnsMode": options.cgroupns,
        "Dns": options.dns,
        "DnsOptions": options.dns_option,
        "DnsSearch": options.dns_search,
        "ExtraHosts": [_extra_host(entry) for entry in options.add_host] or None,
        "GroupAdd": options.group_add or None,
        "IpcMode": options.ipc,
        "Links": options.link or None,
        "OomScoreAdj": options.oom_score_adj,
        "PidMode": options.pid,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": security_options(options.security_opt) or None,
        "StorageOpt": pairs(options.storage_opt) or None,
        "Tmpfs": dict(entry.partition(":")[::2] for entry in options.tmpfs) or None,
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "ShmSize": options.shm_size,
        "Sysctls": pairs(options.sysctl) or None,
        "Runtime": options.runtime,
        "Isolation": options.isolation,
        "Mounts": [mount(text) for text in options.mount] or None,
        "Annotations": pairs(options.annotation) or None,
        "LogConfig": {"Type": options.log_driver, "Config": pairs(options.log_opt)},
    }
    if options.given("init"):
        config["Init"] = options.init
    if size := (0, 0) if not options.tty else _console():
        config["ConsoleSize"] = list(size)
    return config | resources(options)


def _console() -> tuple[int, int]:
    from windlass.cli.streams import terminal_size

    return terminal_size() or (0, 0)


def resources(options: Options) -> Json:
    """The limits in HostConfig."""
    swap = options.memory_swap
    found: Json = {
        "Memory": options.memory,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": swap,
        "MemorySwappiness": options.memory_swappiness,
        "NanoCpus": round(options.cpus * 10**9),
        "CpuShares": options.cpu_shares,
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpuRealtimePeriod": options.cpu_rt_period,
        "CpuRealtimeRuntime": options.cpu_rt_runtime,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "CgroupParent": options.cgroup_parent,
        "BlkioWeight": options.blkio_weight,
        "BlkioWeightDevice": [_weight(text) for text in options.blkio_weight_device] or None,
        "BlkioDeviceReadBps": [_rate(text, parse_bytes) for text in options.device_read_bps] or None,
        "BlkioDeviceWriteBps": [_rate(text, parse_bytes) for text in options.device_write_bps] or None,
        "BlkioDeviceReadIOps": [_rate(text, int) for text in options.device_read_iops] or None,
        "BlkioDeviceWriteIOps": [_rate(text, int) for text in options.device_write_iops] or None,
        "Devices": [device(text) for text in options.device],
        "DeviceCgroupRules": options.device_cgroup_rule or None,
        "OomKillDisable": options.oom_kill_disable,
        "Ulimits": [ulimit(text) for text in options.ulimit] or None,
    }
    if options.given("pids_limit"):
        found["PidsLimit"] = options.pids_limit
    if options.gpus:
        count = -1 if options.gpus == "all" else int(options.gpus)
        found["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    return found


def _network_name(text: str) -> str:
    if "=" not in text:
        return text
    return dict(part.partition("=")[::2] for part in text.split(",")).get("name", "")


def endpoints(options: Options, networks: list[str]) -> Json:
    """EndpointsConfig: what belongs to each network that was named."""
    found: Json = {}
    for index, text in enumerate(networks):
        endpoint: Json = {}
        if "=" in text:
            fields: dict[str, list[str]] = {}
            for part in text.split(","):
                key, _, value = part.partition("=")
                fields.setdefault(key, []).append(value)
            endpoint["Aliases"] = fields.get("alias")
            endpoint["IPAMConfig"] = {
                "IPv4Address": fields.get("ip", [""])[0],
                "IPv6Address": fields.get("ip6", [""])[0],
            }
            endpoint["DriverOpts"] = dict(option.partition("=")[::2] for option in fields.get("driver-opt", []))
            if mac := fields.get("mac-address"):
                endpoint["MacAddress"] = mac[0]
            if priority := fields.get("gw-priority"):
                endpoint["GwPriority"] = int(priority[0])
        if index == 0:
            _first_endpoint(endpoint, options)
        found[_network_name(text)] = endpoint
    if not networks and (options.ip or options.ip6 or options.network_alias or options.link_local_ip):
        found["default"] = _first_endpoint({}, options)
    return found


def _first_endpoint(endpoint: Json, options: Options) -> Json:
    if options.ip or options.ip6 or options.link_local_ip:
        endpoint["IPAMConfig"] = {
            "IPv4Address": options.ip,
            "IPv6Address": options.ip6,
            "LinkLocalIPs": options.link_local_ip or None,
        }
    if options.network_alias:
        endpoint["Aliases"] = options.network_alias
    return endpoint


def bind(text: str) -> str:
    """`-v` source:target[:options], the source made absolute as docker's client does."""
    source, rest = text.split(":", 1)
    if source.startswith((".", "~")):
        source = os.path.abspath(os.path.expanduser(source))
    return f"{source}:{rest}"


def mount(text: str) -> Json:
    """`--mount type=bind,source=…,target=…`: a member of Mounts."""
    found: Json = {"Type": "volume"}
    for field in _csv(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key not in {"readonly", "ro", "volume-nocopy", "bind-nonrecursive"}:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        flag = value.lower() in {"", "1", "t", "true"}
        if key == "type":
            found["Type"] = value.lower()
        elif key in {"source", "src"}:
            found["Source"] = os.path.abspath(value) if value.startswith(".") else value
        elif key in {"target", "dst", "destination"}:
            found["Target"] = value
        elif key in {"readonly", "ro"}:
            found["ReadOnly"] = flag
        elif key == "consistency":
            found["Consistency"] = value.lower()
        elif handler := _MOUNT_FIELDS.get(key):
            handler(found, value, flag)
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if not found["Type"]:
        raise ValueError("type is required")
    if not found.get("Target"):
        raise ValueError("target is required")
    return found


def _csv(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]))


def _mode(found: Json, value: str, _flag: bool) -> None:
    found.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)


def _labels(found: Json, value: str, _flag: bool) -> None:
    key, _, text = value.partition("=")
    found.setdefault("VolumeOptions", {}).setdefault("Labels", {})[key] = text


def _driver(found: Json, value: str, _flag: bool) -> None:
    found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value


def _driver_option(found: Json, value: str, _flag: bool) -> None:
    key, _, text = value.partition("=")
    config = found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
    config.setdefault("Options", {})[key] = text


def _recursive(found: Json, value: str, _flag: bool) -> None:
    options = found.setdefault("BindOptions", {})
    if value == "disabled":
        options["NonRecursive"] = True
    elif value == "writable":
        options["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        options["ReadOnlyForceRecursive"] = True
    elif value != "enabled":
        raise ValueError(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )


def _set(group: str, name: str) -> Callable[[Json, str, bool], None]:
    return lambda found, value, _flag: found.setdefault(group, {}).__setitem__(name, value)


def _switch(group: str, name: str) -> Callable[[Json, str, bool], None]:
    return lambda found, _value, flag: found.setdefault(group, {}).__setitem__(name, flag)


_MOUNT_FIELDS: dict[str, Callable[[Json, str, bool], None]] = {
    "bind-propagation": _set("BindOptions", "Propagation"),
    "bind-nonrecursive": _switch("BindOptions", "NonRecursive"),
    "bind-recursive": _recursive,
    "bind-create-src": _switch("BindOptions", "CreateMountpoint"),
    "volume-nocopy": _switch("VolumeOptions", "NoCopy"),
    "volume-subpath": _set("VolumeOptions", "Subpath"),
    "volume-label": _labels,
    "volume-driver": _driver,
    "volume-opt": _driver_option,
    "image-subpath": _set("ImageOptions", "Subpath"),
    "tmpfs-mode": _mode,
    "tmpfs-size": lambda found, value, _: found.setdefault("TmpfsOptions", {}).__setitem__(
        "SizeBytes", parse_bytes(value)
    ),
}


def parse_ports(specs: Iterable[str]) -> tuple[Json, Json]:
    """`-p [ip:][host]:container[/proto]`, with ranges: (ExposedPorts, PortBindings)."""
    exposed: Json = {}
    bindings: Json = {}
    for spec in specs:
        for port, host_ip, host_port in _publish(spec):
            exposed[port] = {}
            bindings.setdefault(port, []).append({"HostIp": host_ip, "HostPort": host_port})
    return exposed, bindings


def _publish(spec: str) -> list[tuple[str, str, str]]:
    if "=" in spec:
        fields = dict(part.partition("=")[::2] for part in spec.split(","))
        target, protocol = fields.get("target", ""), fields.get("protocol", "tcp")
        published, host_ip = fields.get("published", ""), ""
    else:
        rest, _, protocol = spec.partition("/")
        protocol = protocol.lower() or "tcp"
        host, _, target = rest.rpartition(":")
        host_ip, _, published = host.rpartition(":")
        host_ip = host_ip.strip("[]")
    if protocol not in {"tcp", "udp", "sctp"}:
        raise ValueError(f"invalid proto: {protocol}")
    first, last = _range(target, "containerPort")
    if not published:
        return [(f"{port}/{protocol}", host_ip, "") for port in range(first, last + 1)]
    low, high = _range(published, "hostPort")
    if high - low != last - first:
        if first != last:
            raise ValueError(f"invalid ranges specified for container and host Ports: {target} and {published}")
        return [(f"{first}/{protocol}", host_ip, published)]
    return [(f"{first + step}/{protocol}", host_ip, str(low + step)) for step in range(last - first + 1)]


def _range(text: str, what: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not low.isdecimal() or (high and not high.isdecimal()):
        raise ValueError(f"invalid {what}: {text}" if text else "no port specified: :<empty>")
    first, last = int(low), int(high or low)
    if not 0 <= first <= last <= 65535:
        raise ValueError(f"invalid {what}: {text}")
    return first, last


def _exposed(text: str) -> list[str]:
    port, _, protocol = text.partition("/")
    first, last = _range(port, "port for --expose")
    return [f"{number}/{protocol or 'tcp'}" for number in range(first, last + 1)]


def environment(values: Iterable[str], files: Iterable[str]) -> list[str]:
    """`--env-file` then `--env`; a name without value is taken from our own environment."""
    found = []
    for path in files:
        found += _lines(path)
    for value in values:
        if not value or value.startswith("="):
            raise ValueError(f"invalid environment variable: {value}")
        found.append(value)
    return [
        entry if "=" in entry else f"{entry}={os.environ[entry]}"
        for entry in found
        if "=" in entry or entry in os.environ
    ]


def _lines(path: str) -> list[str]:
    found = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            text = line.rstrip("\r\n").lstrip()
            if not text or text.startswith("#"):
                continue
            name = text.partition("=")[0]
            if re.search(r"\s", name) or not name:
                raise ValueError(f"invalid env file ({path}) line {number}: variable '{name}' contains whitespaces")
            found.append(text)
    return found


def labels(values: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """`--label-file` then `--label`."""
    lines = [line for path in files for line in _lines(path)]
    return pairs([*lines, *values])


def pairs(values: Iterable[str]) -> dict[str, str]:
    """`key=value` words as a map."""
    return dict(value.partition("=")[::2] for value in values)


def _extra_host(text: str) -> str:
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not separator or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    return f"{name}:{address.strip('[]')}"


def restart_policy(text: str) -> Json:
    """`--restart no|always|unless-stopped|on-failure[:n]`."""
    name, colon, count = text.partition(":")
    if colon and not count.isdecimal():
        raise ValueError("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name or "no", "MaximumRetryCount": int(count or 0)}


def device(text: str) -> Json:
    """`--device host[:container][:rwm]`."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"invalid device specification: {text}")
    source, target, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 2:
        if re.fullmatch("[rwm]+", parts[1]):
            permissions = parts[1]
        else:
            target = parts[1]
    elif len(parts) == 3:
        target, permissions = parts[1], parts[2]
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": permissions}


def ulimit(text: str) -> Json:
    """`--ulimit name=soft[:hard]`."""
    name, equals, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        low, high = int(soft), int(hard or soft)
    except ValueError:
        raise ValueError(f"invalid ulimit argument: {text}") from None
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if high != -1 and (low > high or low == -1):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return {"Name": name, "Soft": low, "Hard": high}


def _device_value(text: str, flag: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path.startswith("/dev/"):
        raise ValueError(f"bad format: {text}. Correct format is <device-path>:{flag}")
    return path, value


def _weight(text: str) -> Json:
    path, value = _device_value(text, "<weight>")
    return {"Path": path, "Weight": int(value)}


def _rate(text: str, parse: Callable[[str], int]) -> Json:
    path, value = _device_value(text, "<number>[<unit>]")
    return {"Path": path, "Rate": parse(value)}


def security_options(values: Iterable[str]) -> list[str]:
    """`--security-opt`; a seccomp profile is read here, because the engine may be elsewhere."""
    found = []
    for value in values:
        key, separator, text = value.partition("=" if "=" in value else ":")
        if key == "seccomp" and separator and text not in {"unconfined", "builtin"}:
            try:
                with open(text, encoding="utf-8") as file:
                    text = file.read()
            except OSError as error:
                raise ValueError(f"opening seccomp profile ({text}) failed: {error.strerror}") from None
            value = f"seccomp={text}"
        found.append(value)
    return found


def healthcheck(options: Options) -> Json:
    """The `--health-*` flags."""
    names = ("health_interval", "health_timeout", "health_start_period", "health_start_interval", "health_retries")
    if options.no_healthcheck:
        if options.health_cmd or any(options.given(name) for name in names):
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    found: Json = {}
    if options.health_cmd:
        found["Test"] = ["CMD-SHELL", options.health_cmd]
    fields = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
    for name, field in zip(names, fields, strict=True):
        if options.given(name):
            found[field] = getattr(options, name)
    return found
