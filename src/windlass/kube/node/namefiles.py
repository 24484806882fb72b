"""hosts, hostname and resolv.conf of a pod. Pure.

Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/ and
https://kubernetes.io/docs/tasks/network/customize-hosts-file-for-pods/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

_MOST_SERVERS, _MOST_SEARCHES, _LONGEST_SEARCH = 3, 32, 2048
_LONGEST_HOSTNAME = 63


def hostname(pod: Object, domain: str) -> str:
    """The host name that a pod's containers see."""
    spec = pod["spec"]
    if override := spec.get("hostnameOverride"):
        return str(override)
    name = str(spec.get("hostname") or pod["metadata"]["name"])[:_LONGEST_HOSTNAME].rstrip("-.")
    if spec.get("setHostnameAsFQDN") and spec.get("subdomain"):
        return qualified(pod, domain) or name
    return name


def qualified(pod: Object, domain: str) -> str:
    """The pod's name in the cluster's DNS, "" where it has none."""
    spec = pod["spec"]
    if not spec.get("subdomain"):
        return ""
    own = str(spec.get("hostname") or pod["metadata"]["name"])
    return f"{own}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{domain}"


def hosts(pod: Object, addresses: Sequence[str], domain: str) -> str:
    """/etc/hosts of a pod with a network of its own."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    full, short = qualified(pod, domain), hostname(pod, domain)
    names = f"{full}\t{short}" if full and full != short else short
    lines += [f"{address}\t{names}" for address in addresses]
    return "\n".join([*lines, *_aliases(pod)]) + "\n"


def hosts_of_host(pod: Object, own: str) -> str:
    """/etc/hosts of a pod in the host's network: the host's `own`, and the pod's aliases."""
    aliases = _aliases(pod)
    if not aliases:
        return own
    text = own if own.endswith("\n") or not own else own + "\n"
    return "# Kubernetes-managed hosts file (host network).\n" + text + "\n".join(aliases) + "\n"


def _aliases(pod: Object) -> list[str]:
    aliases = pod["spec"].get("hostAliases") or []
    lines = [f"{each.get('ip', '')}\t" + "\t".join(each.get("hostnames") or ()) for each in aliases]
    return ["", "# Entries added by HostAliases.", *lines] if lines else []


class Resolver:
    """A resolv.conf in parts."""

    def __init__(self, servers: Sequence[str] = (), searches: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        self.servers, self.searches, self.options = list(servers), list(searches), list(options)

    @classmethod
    def parse(cls, text: str) -> Resolver:
        """Read a file's text (resolv.conf(5)); what is not understood is passed over."""
        found = cls()
        for line in text.splitlines():
            words = line.split("#")[0].split(";")[0].split()
            match words:
                case ["nameserver", server, *_]:
                    found.servers.append(server)
                case ["search" | "domain", *names]:
                    found.searches = names
                case ["options", *options]:
                    found.options += options
        return found

    def render(self) -> str:
        """The file's text."""
        lines = []
        if self.searches:
            lines.append("search " + " ".join(self.searches))
        lines += [f"nameserver {server}" for server in self.servers]
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "\n".join(lines) + "\n"


def resolver(pod: Object, host: Resolver, cluster_dns: Sequence[str], domain: str) -> Resolver:
    """What a pod asks for names, by its dnsPolicy and dnsConfig."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and cluster_dns:
        namespace = pod["metadata"]["namespace"]
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *host.searches]
        found = Resolver(cluster_dns, searches, ["ndots:5"])
    elif policy == "None":
        found = Resolver()
    else:
        found = Resolver(host.servers, host.searches, host.options)
    return _with_config(found, spec.get("dnsConfig") or {})


def _with_config(found: Resolver, config: Object) -> Resolver:
    servers = list(dict.fromkeys([*found.servers, *(config.get("nameservers") or ())]))
    searches = list(dict.fromkeys([*found.searches, *(config.get("searches") or ())]))
    options = {option.partition(":")[0]: option for option in found.options}
    for each in config.get("options") or ():
        name, value = each.get("name", ""), each.get("value")
        options[name] = f"{name}:{value}" if value else name
    kept: list[str] = []
    for search in searches[:_MOST_SEARCHES]:
        if len(" ".join([*kept, search])) <= _LONGEST_SEARCH:
            kept.append(search)
    return Resolver(servers[:_MOST_SERVERS], kept, list(options.values()))
