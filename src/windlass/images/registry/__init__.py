"""The client of OCI distribution registries: pull and push over HTTP, for the images room.

    settings      which addresses serve a name; mirrors, insecure networks
    credentials   X-Registry-Auth
    challenge     WWW-Authenticate          tokens        bearer tokens, cached
    certificates  certs.d directories       transport     HTTP, redirects, bounded answers
    session       permission and retries    manifests     blobs     uploads     failures
    client        the whole: RegistryClient         search

A registry is hostile until its content's digest has been computed. This page imports only what is light; the client is
imported by name where a request needs it.
"""

from windlass.images.registry.credentials import (
    ANONYMOUS,
    Credentials,
    HasCredentials,
    as_credentials,
    credentials_from_json,
    decode_registry_auth,
)
from windlass.images.registry.settings import RegistrySettings, check_mirror, registry_settings

__all__ = [
    "ANONYMOUS",
    "Credentials",
    "HasCredentials",
    "RegistrySettings",
    "as_credentials",
    "check_mirror",
    "credentials_from_json",
    "decode_registry_auth",
    "registry_settings",
]
