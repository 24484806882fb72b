"""The flags of `windlass server`."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from windlass.cluster.overlay import BACKENDS
from windlass.kube.admission.chain import ORDER
from windlass.kube.api import times
from windlass.kube.node import thresholds

DEFAULT_DIRECTORY = Path("/var/lib/windlass/server")
DEFAULT_PORT = 6443
_EXEC_ROOTS = Path("/run/windlass")

_EPILOG = """examples:
  windlass server                                         a cluster with one node, on port 6443
  windlass server --disable-agent                         only the API server, on 127.0.0.1:6443
  windlass server --data-dir /srv/cluster --https-listen-port 0
  windlass server --datastore-endpoint https://10.0.0.5:2379,https://10.0.0.6:2379 \\
      --datastore-cafile ca.pem --datastore-certfile client.pem --datastore-keyfile client.key
  windlass server --datastore-endpoint memory:            a cluster that is gone when it ends

The kubeconfig of an administrator is written to <data-dir>/cred/admin.kubeconfig, or where --write-kubeconfig says.
"""


@dataclass(frozen=True, slots=True)
class AuthenticationFlags:
    """Who is believed. `anonymous` is None where the flag was not given."""

    config: Path | None
    anonymous: bool | None
    token_file: Path | None
    audiences: tuple[str, ...]
    service_account_issuer: str
    oidc_issuer: str
    oidc_client: str
    oidc_username_claim: str
    oidc_username_prefix: str
    oidc_groups_claim: str
    oidc_groups_prefix: str
    oidc_required: tuple[str, ...]
    oidc_algorithms: tuple[str, ...]
    oidc_authority: Path | None
    webhook: Path | None
    webhook_version: str
    webhook_ttl: float


@dataclass(frozen=True, slots=True)
class AuthorizationFlags:
    """Who decides. `modes` is None where the flag was not given."""

    config: Path | None
    modes: tuple[str, ...] | None
    policy_file: Path | None
    webhook: Path | None
    webhook_version: str
    webhook_authorized_ttl: float
    webhook_unauthorized_ttl: float


@dataclass(frozen=True, slots=True)
class NodeFlags:
    """A node. `name` and `address` are "" where they follow from the machine, `kubelet_port` None for the usual one."""

    name: str
    address: str
    labels: tuple[tuple[str, str], ...]
    taints: tuple[dict[str, str], ...]
    max_pods: int
    manifests: Path
    eviction: tuple[thresholds.Threshold, ...]
    image_gc_high: int
    image_gc_low: int
    kubelet_port: int | None
    exec_root: Path
    insecure_registries: tuple[str, ...]
    registry_mirrors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arguments:
    """The flags' values; ports of 0 are chosen by the kernel."""

    data_dir: Path
    bind_address: str
    port: int
    advertise_address: str
    names: tuple[str, ...]
    kubeconfig: Path | None
    datastore: str
    datastore_ca: Path | None
    datastore_certificate: Path | None
    datastore_key: Path | None
    service_cidr: str
    cluster_cidr: str
    domain: str
    token: str
    backend: str
    node: NodeFlags
    authentication: AuthenticationFlags
    authorization: AuthorizationFlags
    encryption_config: Path | None
    scheduler_config: Path | None
    enable_admission: tuple[str, ...]
    disable_admission: tuple[str, ...]
    audit_policy: Path | None
    audit_log: Path | None
    audit_log_megabytes: int
    audit_log_backups: int
    max_requests: int
    disable_agent: bool
    log_level: str


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parser() -> argparse.ArgumentParser:
    """The parser."""
    found = argparse.ArgumentParser(
        prog="windlass server",
        description="Run a Kubernetes API server with its store and controllers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add(
        "--data-dir",
        type=Path,
        default=DEFAULT_DIRECTORY,
        metavar="DIR",
        help="state: store, certificates (default %(default)s)",
    )
    add(
        "--bind-address",
        default="",
        metavar="ADDRESS",
        help="listen here (default 0.0.0.0, which pods reach too; 127.0.0.1 with --disable-agent)",
    )
    add(
        "--https-listen-port",
        type=int,
        default=DEFAULT_PORT,
        metavar="PORT",
        help="listen here; 0 for any (default %(default)s)",
    )
    add(
        "--advertise-address", default="", metavar="ADDRESS", help="what others reach us by (default: the bind address)"
    )
    add("--tls-san", action="append", default=[], metavar="NAME", help="a further name or address for the certificate")
    add("--write-kubeconfig", type=Path, metavar="FILE", help="write the administrator's kubeconfig here (mode 0600)")
    add(
        "--datastore-endpoint",
        default="",
        metavar="URL",
        help="sqlite:///file (default, in the data directory), memory:, or etcd's endpoints",
    )
    add("--datastore-cafile", type=Path, metavar="FILE", help="who signed etcd's certificate")
    add("--datastore-certfile", type=Path, metavar="FILE", help="our certificate for etcd")
    add("--datastore-keyfile", type=Path, metavar="FILE", help="its key")
    add("--service-cidr", default="10.43.0.0/16", metavar="CIDR", help="addresses of services (default %(default)s)")
    add("--cluster-cidr", default="10.42.0.0/16", metavar="CIDR", help="addresses of pods (default %(default)s)")
    add("--cluster-domain", default="cluster.local", metavar="NAME", help="(default %(default)s)")
    add(
        "--token",
        default="",
        metavar="TOKEN",
        help="what nodes join with, <id>.<secret> (default: that of <data-dir>/token, made at the first start)",
    )
    add(
        "--flannel-backend",
        choices=BACKENDS,
        default=BACKENDS[0],
        help="how packets get from node to node (default %(default)s)",
    )
    _add_authentication(found)
    _add_authorization(found)
    add(
        "--encryption-provider-config",
        type=Path,
        metavar="FILE",
        help="an EncryptionConfiguration: seals what is stored",
    )
    add("--scheduler-config", type=Path, metavar="FILE", help="a KubeSchedulerConfiguration: profiles of the scheduler")
    add("--enable-admission-plugins", type=_list, default=(), metavar="NAMES", help=f"of {', '.join(ORDER)}")
    add("--disable-admission-plugins", type=_list, default=(), metavar="NAMES", help="plugins that are on by default")
    add("--audit-policy-file", type=Path, metavar="FILE", help="what the audit log records")
    add("--audit-log-path", type=Path, metavar="FILE", help="the audit log, JSON lines")
    add("--audit-log-maxsize", type=int, default=100, metavar="MB", help="begin a new file then (default %(default)s)")
    add("--audit-log-maxbackup", type=int, default=10, metavar="N", help="files kept (default %(default)s)")
    add(
        "--max-requests-inflight",
        type=int,
        default=600,
        metavar="N",
        help="seats of all priority levels together (default %(default)s)",
    )
    node = found.add_argument_group("node").add_argument
    node("--disable-agent", action="store_true", help="run no node in this process")
    add_node_flags(node)
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default %(default)s)")
    return found


def add_node_flags(add: Callable[..., argparse.Action]) -> None:
    """The flags that servers' and agents' nodes share."""
    add("--node-name", default="", metavar="NAME", help="(default: the host name)")
    add(
        "--node-ip", "-i", default="", metavar="ADDRESS", help="the node's address (default: that of the default route)"
    )
    add("--node-label", action="append", type=label_flag, default=[], metavar="KEY=VALUE", help="a label of the node")
    add(
        "--node-taint",
        action="append",
        type=taint_flag,
        default=[],
        metavar="KEY=VALUE:EFFECT",
        help="a taint of the node",
    )
    add("--max-pods", type=int, default=110, metavar="N", help="pods at once (default %(default)s)")
    add(
        "--pod-manifest-path",
        type=Path,
        metavar="DIR",
        help="its files are pods of this node (default <data-dir>/agent/manifests)",
    )
    add(
        "--eviction-hard",
        type=_thresholds,
        default=thresholds.DEFAULTS,
        metavar="SIGNAL<VALUE,…",
        help="evict pods below (default memory.available<100Mi,nodefs.available<10%%,nodefs.inodesFree<5%%,"
        "imagefs.available<15%%,imagefs.inodesFree<5%%)",
    )
    add(
        "--image-gc-high-threshold",
        type=_percent,
        default=85,
        metavar="PERCENT",
        help="remove unused images when the disk is so full (default %(default)s; 100 for never)",
    )
    add(
        "--image-gc-low-threshold",
        type=_percent,
        default=80,
        metavar="PERCENT",
        help="and until it is only so full (default %(default)s)",
    )
    add(
        "--kubelet-port",
        type=int,
        metavar="PORT",
        help="where the node's own API is (default 10250, or any port where that is taken)",
    )
    add(
        "--exec-root",
        type=Path,
        metavar="DIR",
        help="running containers and Docker's socket (default below /run/windlass, one for each data directory)",
    )
    add("--insecure-registry", action="append", default=[], metavar="HOST", help="a registry without TLS")
    add("--registry-mirror", action="append", default=[], metavar="URL", help="a mirror of the default registry")


def _thresholds(text: str) -> tuple[thresholds.Threshold, ...]:
    try:
        return thresholds.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _percent(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage")
    return int(text)


def label_flag(text: str) -> tuple[str, str]:
    """A label, KEY=VALUE. Raises ArgumentTypeError."""
    key, _, value = text.partition("=")
    if not key:
        raise argparse.ArgumentTypeError(f"{text!r} is no label: KEY=VALUE")
    return key, value


def taint_flag(text: str) -> dict[str, str]:
    """A taint, KEY=VALUE:EFFECT. Raises ArgumentTypeError."""
    rest, _, effect = text.rpartition(":")
    key, _, value = rest.partition("=")
    if not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no taint: KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute"
        )
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def node_flags(found: argparse.Namespace, data_dir: Path, program: str, default: Path) -> NodeFlags:
    """Their values for a program whose data are in `data_dir`, or usually in `default`."""
    if found.exec_root is not None:
        exec_root = found.exec_root.absolute()
    elif data_dir == default:
        exec_root = _EXEC_ROOTS / program
    else:
        exec_root = _EXEC_ROOTS / f"{program}-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:8]}"
    return NodeFlags(
        name=found.node_name,
        address=found.node_ip,
        labels=tuple(found.node_label),
        taints=tuple(found.node_taint),
        max_pods=found.max_pods,
        manifests=(found.pod_manifest_path or data_dir / "agent" / "manifests").absolute(),
        eviction=found.eviction_hard,
        image_gc_high=found.image_gc_high_threshold,
        image_gc_low=found.image_gc_low_threshold,
        kubelet_port=found.kubelet_port,
        exec_root=exec_root,
        insecure_registries=tuple(found.insecure_registry),
        registry_mirrors=tuple(found.registry_mirror),
    )


def _add_authentication(found: argparse.ArgumentParser) -> None:
    add = found.add_argument_group("authentication").add_argument
    add(
        "--authentication-config",
        type=Path,
        metavar="FILE",
        help="an AuthenticationConfiguration; read again on change",
    )
    add(
        "--anonymous-auth",
        choices=("true", "false"),
        help="requests without credentials are system:anonymous (default true)",
    )
    add("--token-auth-file", type=Path, metavar="FILE", help='static tokens: token,user,uid,"group1,group2"')
    add("--api-audiences", type=_list, default=(), metavar="NAMES", help="who we are in tokens (default: the issuer)")
    add(
        "--service-account-issuer",
        default="",
        metavar="URL",
        help="in the tokens of service accounts (default https://kubernetes.default.svc.<domain>)",
    )
    add("--oidc-issuer-url", default="", metavar="URL", help="the OpenID Connect issuer whose tokens are believed")
    add("--oidc-client-id", default="", metavar="ID", help="who its tokens must be for")
    add("--oidc-username-claim", default="sub", metavar="NAME", help="(default %(default)s)")
    add("--oidc-username-prefix", default="", metavar="TEXT", help='(default the issuer and "#"; "-" for none)')
    add("--oidc-groups-claim", default="", metavar="NAME", help="a claim with one group or a list")
    add("--oidc-groups-prefix", default="", metavar="TEXT")
    add("--oidc-required-claim", action="append", default=[], metavar="NAME=VALUE", help="what a token must say")
    add("--oidc-signing-algs", type=_list, default=("RS256",), metavar="NAMES", help="(default RS256)")
    add("--oidc-ca-file", type=Path, metavar="FILE", help="who signed the issuer's certificate")
    add(
        "--authentication-token-webhook-config-file",
        type=Path,
        metavar="FILE",
        help="kubeconfig of a TokenReview service",
    )
    add("--authentication-token-webhook-version", choices=("v1", "v1beta1"), default="v1beta1")
    add(
        "--authentication-token-webhook-cache-ttl",
        type=duration_flag,
        default=120.0,
        metavar="TIME",
        help="(default 2m0s)",
    )


def _add_authorization(found: argparse.ArgumentParser) -> None:
    add = found.add_argument_group("authorization").add_argument
    add("--authorization-config", type=Path, metavar="FILE", help="an AuthorizationConfiguration; read again on change")
    add(
        "--authorization-mode",
        type=_list,
        metavar="MODES",
        help="in order, of AlwaysAllow, AlwaysDeny, ABAC, Webhook, Node, RBAC (default Node,RBAC)",
    )
    add("--authorization-policy-file", type=Path, metavar="FILE", help="ABAC's policies, a line of JSON each")
    add(
        "--authorization-webhook-config-file",
        type=Path,
        metavar="FILE",
        help="kubeconfig of a SubjectAccessReview service",
    )
    add("--authorization-webhook-version", choices=("v1", "v1beta1"), default="v1beta1")
    add(
        "--authorization-webhook-cache-authorized-ttl",
        type=duration_flag,
        default=300.0,
        metavar="TIME",
        help="(default 5m0s)",
    )
    add(
        "--authorization-webhook-cache-unauthorized-ttl",
        type=duration_flag,
        default=30.0,
        metavar="TIME",
        help="(default 30s)",
    )


def duration_flag(text: str) -> float:
    """A duration in Go's form, in seconds. Raises ArgumentTypeError."""
    try:
        return times.parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _authentication(found: argparse.Namespace) -> AuthenticationFlags:
    return AuthenticationFlags(
        config=found.authentication_config,
        anonymous=None if found.anonymous_auth is None else found.anonymous_auth == "true",
        token_file=found.token_auth_file,
        audiences=tuple(found.api_audiences),
        service_account_issuer=found.service_account_issuer,
        oidc_issuer=found.oidc_issuer_url,
        oidc_client=found.oidc_client_id,
        oidc_username_claim=found.oidc_username_claim,
        oidc_username_prefix=found.oidc_username_prefix,
        oidc_groups_claim=found.oidc_groups_claim,
        oidc_groups_prefix=found.oidc_groups_prefix,
        oidc_required=tuple(found.oidc_required_claim),
        oidc_algorithms=tuple(found.oidc_signing_algs),
        oidc_authority=found.oidc_ca_file,
        webhook=found.authentication_token_webhook_config_file,
        webhook_version=found.authentication_token_webhook_version,
        webhook_ttl=found.authentication_token_webhook_cache_ttl,
    )


def _authorization(found: argparse.Namespace) -> AuthorizationFlags:
    return AuthorizationFlags(
        config=found.authorization_config,
        modes=None if found.authorization_mode is None else tuple(found.authorization_mode),
        policy_file=found.authorization_policy_file,
        webhook=found.authorization_webhook_config_file,
        webhook_version=found.authorization_webhook_version,
        webhook_authorized_ttl=found.authorization_webhook_cache_authorized_ttl,
        webhook_unauthorized_ttl=found.authorization_webhook_cache_unauthorized_ttl,
    )


def parse_arguments(argv: list[str]) -> Arguments:
    """The flags' values; exits with 2 where they are wrong."""
    found = parser().parse_args(argv)
    data_dir = found.data_dir.absolute()
    bind_address = found.bind_address or ("127.0.0.1" if found.disable_agent else "0.0.0.0")
    return Arguments(
        data_dir=data_dir,
        bind_address=bind_address,
        port=found.https_listen_port,
        advertise_address=found.advertise_address or bind_address,
        names=tuple(found.tls_san),
        kubeconfig=found.write_kubeconfig,
        datastore=found.datastore_endpoint,
        datastore_ca=found.datastore_cafile,
        datastore_certificate=found.datastore_certfile,
        datastore_key=found.datastore_keyfile,
        service_cidr=found.service_cidr,
        cluster_cidr=found.cluster_cidr,
        node=node_flags(found, data_dir, "server", DEFAULT_DIRECTORY),
        domain=found.cluster_domain,
        token=found.token,
        backend=found.flannel_backend,
        authentication=_authentication(found),
        authorization=_authorization(found),
        encryption_config=found.encryption_provider_config,
        scheduler_config=found.scheduler_config,
        enable_admission=tuple(found.enable_admission_plugins),
        disable_admission=tuple(found.disable_admission_plugins),
        audit_policy=found.audit_policy_file,
        audit_log=found.audit_log_path,
        audit_log_megabytes=found.audit_log_maxsize,
        audit_log_backups=found.audit_log_maxbackup,
        max_requests=found.max_requests_inflight,
        disable_agent=found.disable_agent,
        log_level=found.log_level,
    )
