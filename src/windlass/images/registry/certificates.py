"""TLS towards registries: the per-registry directories of certificates.

/etc/docker/certs.d/registry.example:5000/
    ca.crt          any *.crt: certificate authorities to trust besides the system's
    client.cert     any *.cert: a client certificate ...
    client.key      ... with the key of the same name
"""

from __future__ import annotations

import ssl
from pathlib import Path

from windlass.errors import InvalidParameter
from windlass.images.registry.settings import Endpoint, RegistrySettings


def tls_context(endpoint: Endpoint, settings: RegistrySettings) -> ssl.SSLContext:
    """The context for an endpoint. Raises `InvalidParameter` for a directory that contradicts itself.

    An endpoint whose certificate is not verified may still ask for ours.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for parent in settings.certificate_directories:
        _load_directory(context, parent / _directory_name(endpoint.host))
    return context


def _directory_name(host: str) -> str:
    """A host is a name from outside: it must stay one component."""
    name = host.replace("/", "_")
    return "_" if name in ("", ".", "..") else name


def _load_directory(context: ssl.SSLContext, directory: Path) -> None:
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InvalidParameter(f"open {directory}: {(error.strerror or str(error)).lower()}") from None
    for name in names:
        stem, dot, extension = name.rpartition(".")
        if not dot:
            continue
        try:
            if extension == "crt":
                context.load_verify_locations(cafile=directory / name)
            elif extension == "cert":
                if f"{stem}.key" not in names:
                    raise InvalidParameter(
                        f"missing key {stem}.key for client certificate {name}. "
                        "CA certificates must use the extension .crt"
                    )
                context.load_cert_chain(directory / name, directory / f"{stem}.key", password=_no_password)
            elif extension == "key" and f"{stem}.cert" not in names:
                raise InvalidParameter(f"missing client certificate {stem}.cert for key {name}")
        except OSError as error:  # ssl.SSLError is one: not PEM, key and certificate do not fit, …
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise InvalidParameter(f"{directory / name}: {reason}") from None


def _no_password() -> str:
    """A daemon cannot be asked for a pass phrase: an encrypted key is an error."""
    raise InvalidParameter("client key is encrypted")
