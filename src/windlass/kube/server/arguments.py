"""The flags of `windlass server`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from windlass.kube.admission.chain import ORDER

DEFAULT_DIRECTORY = Path("/var/lib/windlass/server")
DEFAULT_PORT = 6443

_EPILOG = """examples:
  windlass server --disable-agent                         an API server on 127.0.0.1:6443
  windlass server --data-dir /srv/cluster --https-listen-port 0
  windlass server --datastore-endpoint https://10.0.0.5:2379,https://10.0.0.6:2379 \\
      --datastore-cafile ca.pem --datastore-certfile client.pem --datastore-keyfile client.key
  windlass server --datastore-endpoint memory:            a cluster that is gone when it ends

The kubeconfig of an administrator is written to <data-dir>/cred/admin.kubeconfig, or where --write-kubeconfig says.
"""


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
    domain: str
    anonymous: bool
    token_file: Path | None
    encryption_config: Path | None
    enable_admission: tuple[str, ...]
    disable_admission: tuple[str, ...]
    authorization_modes: tuple[str, ...]
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
    add("--bind-address", default="127.0.0.1", metavar="ADDRESS", help="listen here (default %(default)s)")
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
    add("--cluster-domain", default="cluster.local", metavar="NAME", help="(default %(default)s)")
    add(
        "--anonymous-auth",
        choices=("true", "false"),
        default="true",
        help="requests without credentials are system:anonymous (default %(default)s)",
    )
    add("--token-auth-file", type=Path, metavar="FILE", help='static tokens: token,user,uid,"group1,group2"')
    add(
        "--encryption-provider-config",
        type=Path,
        metavar="FILE",
        help="an EncryptionConfiguration: seals what is stored",
    )
    add("--enable-admission-plugins", type=_list, default=(), metavar="NAMES", help=f"of {', '.join(ORDER)}")
    add("--disable-admission-plugins", type=_list, default=(), metavar="NAMES", help="plugins that are on by default")
    add(
        "--authorization-mode",
        type=_list,
        default=("Node", "RBAC"),
        metavar="MODES",
        help="in order, of AlwaysAllow, AlwaysDeny, Node, RBAC (default Node,RBAC)",
    )
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
    add("--disable-agent", action="store_true", help="run no node in this process")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default %(default)s)")
    return found


def parse_arguments(argv: list[str]) -> Arguments:
    """The flags' values; exits with 2 where they are wrong."""
    found = parser().parse_args(argv)
    return Arguments(
        data_dir=found.data_dir.absolute(),
        bind_address=found.bind_address,
        port=found.https_listen_port,
        advertise_address=found.advertise_address or found.bind_address,
        names=tuple(found.tls_san),
        kubeconfig=found.write_kubeconfig,
        datastore=found.datastore_endpoint,
        datastore_ca=found.datastore_cafile,
        datastore_certificate=found.datastore_certfile,
        datastore_key=found.datastore_keyfile,
        service_cidr=found.service_cidr,
        domain=found.cluster_domain,
        anonymous=found.anonymous_auth == "true",
        token_file=found.token_auth_file,
        encryption_config=found.encryption_provider_config,
        enable_admission=tuple(found.enable_admission_plugins),
        disable_admission=tuple(found.disable_admission_plugins),
        authorization_modes=tuple(found.authorization_mode),
        audit_policy=found.audit_policy_file,
        audit_log=found.audit_log_path,
        audit_log_megabytes=found.audit_log_maxsize,
        audit_log_backups=found.audit_log_maxbackup,
        max_requests=found.max_requests_inflight,
        disable_agent=found.disable_agent,
        log_level=found.log_level,
    )
