"""What an agent is told at its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windlass.kube.node import thresholds
from windlass.kube.node.thresholds import Threshold

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """Attributes:

    name: the Node's.
    address: the node's own, IPv4 or IPv6; `has_fixed_address` where it is not to follow the machine's.
    data_dir: pods' volumes and files; what must survive a reboot.
    cgroup_parent: the control group above those of pods, absolute.
    cluster_dns: the name servers of pods with dnsPolicy ClusterFirst.
    labels, taints: what the node registers itself with.
    static_manifests: a directory whose files are pods of this node, or None.
    kubelet_port: where the agent's own API is served, 0 for nowhere.
    max_pods: no more than these run at once.
    eviction: what has to be left of the machine's memory and disks.
    image_gc_high, image_gc_low: from so full a disk on (in percent), until it is only so full, images are removed.
    cluster_cidr: the ranges that all nodes' pods are in, separated by commas: within them nothing is translated.
    service_cidr: the addresses of services, the same.
    mtu: bytes of pods' packets.
    """

    name: str
    address: str
    hostname: str
    data_dir: Path
    cgroup_parent: str
    cluster_dns: Sequence[str] = ()
    cluster_domain: str = "cluster.local"
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Object] = ()
    static_manifests: Path | None = None
    kubelet_port: int = 0
    max_pods: int = 110
    eviction: Sequence[Threshold] = thresholds.DEFAULTS
    image_gc_high: int = 85
    image_gc_low: int = 80
    cluster_cidr: str = ""
    service_cidr: str = ""
    mtu: int = 1500
    has_fixed_address: bool = False
