"""Who is believed and who decides: authenticators and authorizers by flags and files; files are read again on change.

Source: https://kubernetes.io/docs/reference/access-authn-authz/
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from windlass.cluster.pki import PKI, utc_now
from windlass.kube.api.authentication import configuration as authentication
from windlass.kube.api.authentication.audience import AudienceAgnostic
from windlass.kube.api.authentication.bootstrap import BootstrapTokens
from windlass.kube.api.authentication.credentials import TokenAuthenticator
from windlass.kube.api.authentication.oidc import OIDCTokens, Settings
from windlass.kube.api.authentication.requestheader import FrontProxy
from windlass.kube.api.authentication.serviceaccount import ServiceAccountTokens
from windlass.kube.api.authentication.tokenfile import TokenFile
from windlass.kube.api.authentication.union import AnonymousRule, Union
from windlass.kube.api.authentication.webhook import WebhookTokens
from windlass.kube.api.authentication.x509 import ClientCertificates
from windlass.kube.api.authorization import configuration as authorization
from windlass.kube.api.authorization.chain import Chain
from windlass.kube.api.authorization.node import NodeAuthorizer
from windlass.kube.api.authorization.rbac import RBAC
from windlass.kube.api.authorization.webhook import WebhookSettings
from windlass.kube.api.configfile import BadConfiguration
from windlass.kube.api.identity import Authorizer
from windlass.kube.api.kubeconfigfile import KubeconfigServer
from windlass.kube.api.reader import Reader
from windlass.kube.server.arguments import AuthenticationFlags, AuthorizationFlags

log = logging.getLogger(__name__)

_DEFAULT_MODES = ("Node", "RBAC")
_LOOK_SECONDS = 5.0
_RESOLVES_RULES = frozenset({"RBAC", "Node", "AlwaysAllow", "AlwaysDeny"})


class Authentication:
    """The server's authenticator and what it is made of."""

    def __init__(self, flags: AuthenticationFlags, pki: PKI, reader: Reader, accounts: ServiceAccountTokens) -> None:
        """Raises BadConfiguration."""
        self._flags = flags
        self._accounts = accounts
        self._audiences = accounts.audiences
        self._reader = reader
        self._webhook = KubeconfigServer(flags.webhook) if flags.webhook is not None else None
        self._static = self._static_tokens()
        tokens, anonymous = self._configured()
        self.union = Union(
            [
                FrontProxy(pki.front_proxy_ca.certificate_pem, utc_now, ("front-proxy-client",)),
                ClientCertificates(pki.ca.certificate_pem, utc_now),
            ],
            tokens,
            anonymous=anonymous,
            clock=time.monotonic,
        )

    @property
    def file(self) -> Path | None:
        """The configuration file."""
        return self._flags.config

    def reload(self) -> None:
        """Read the file again. Raises BadConfiguration, and all stays as it is."""
        self.union.replace(*self._configured())

    async def close(self) -> None:
        """Let go of connections."""
        if self._webhook is not None:
            await self._webhook.close()

    def _agnostic(self, inner: TokenAuthenticator) -> TokenAuthenticator:
        return AudienceAgnostic(inner, self._audiences)

    def _static_tokens(self) -> list[TokenAuthenticator]:
        flags = self._flags
        found: list[TokenAuthenticator] = []
        if flags.token_file is not None:
            found.append(self._agnostic(TokenFile(flags.token_file)))
        found += [self._accounts, self._agnostic(BootstrapTokens(self._reader, utc_now))]
        if self._webhook is not None:
            found.append(
                WebhookTokens(
                    self._webhook,
                    self._audiences,
                    version=flags.webhook_version,
                    ttl=flags.webhook_ttl,
                    clock=time.monotonic,
                )
            )
        return found

    def _configured(self) -> tuple[list[TokenAuthenticator], AnonymousRule]:
        flags = self._flags
        anonymous = AnonymousRule(flags.anonymous is not False)
        issuers: Sequence[Settings] = ()
        if flags.config is not None:
            if flags.oidc_issuer or flags.oidc_client:
                raise BadConfiguration("--authentication-config and --oidc-… flags exclude each other")
            found = authentication.load(flags.config)
            issuers = found.issuers
            if found.anonymous is not None:
                if flags.anonymous is not None:
                    raise BadConfiguration(f"{flags.config}: anonymous: --anonymous-auth was given, too")
                anonymous = found.anonymous
        elif flags.oidc_issuer:
            issuers = [_of_flags(flags)]
        if any(each.url == self._accounts.issuer for each in issuers):
            raise BadConfiguration(f"{self._accounts.issuer} is the issuer of this cluster's service accounts")
        oidc = [OIDCTokens(each, wall_clock=time.time, clock=time.monotonic) for each in issuers]
        return [*self._static, *(self._agnostic(each) for each in oidc)], anonymous


def _of_flags(flags: AuthenticationFlags) -> Settings:
    required: dict[str, str] = {}
    for each in flags.oidc_required:
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise BadConfiguration(f"--oidc-required-claim: expected NAME=VALUE, not {each!r}")
        required[name] = value
    try:
        authority = flags.oidc_authority.read_text() if flags.oidc_authority is not None else ""
    except OSError as error:
        raise BadConfiguration(f"--oidc-ca-file: {error}") from None
    return authentication.of_flags(
        flags.oidc_issuer,
        flags.oidc_client,
        username_claim=flags.oidc_username_claim,
        username_prefix=flags.oidc_username_prefix,
        groups_claim=flags.oidc_groups_claim,
        groups_prefix=flags.oidc_groups_prefix,
        required=required,
        algorithms=flags.oidc_algorithms,
        authority=authority,
    )


class Authorization:
    """The server's authorizer and what it is made of. `rbac` is there where it was chosen at the start."""

    def __init__(self, flags: AuthorizationFlags, reader: Reader) -> None:
        """Raises BadConfiguration."""
        self._flags = flags
        self._node: NodeAuthorizer | None = None
        self._reader = reader
        self.rbac: RBAC | None = None
        self._builder = authorization.Builder(self._of_nodes, self._of_roles, flags.policy_file, time.monotonic)
        self._parts = self._chosen()
        self.chain = Chain(self._builder.build(self._parts))

    @property
    def file(self) -> Path | None:
        """The configuration file."""
        return self._flags.config

    def is_complete(self) -> bool:
        """Whether the rules of a user can be told without asking somebody else."""
        return all(part.type in _RESOLVES_RULES for part in self._parts)

    def reload(self) -> None:
        """Read the file again. Raises BadConfiguration, and all stays as it is."""
        parts = self._chosen()
        self.chain.replace(self._builder.build(parts))
        self._parts = parts

    async def close(self) -> None:
        """Let go of connections."""
        for server in self._builder.servers:
            await server.close()

    def _of_nodes(self) -> Authorizer:
        if self._node is None:
            self._node = NodeAuthorizer(self._reader)
        return self._node

    def _of_roles(self) -> Authorizer:
        if self.rbac is None:
            self.rbac = RBAC(self._reader)
        return self.rbac

    def _chosen(self) -> tuple[authorization.Part, ...]:
        flags = self._flags
        if flags.config is not None:
            if flags.modes is not None or flags.webhook is not None:
                raise BadConfiguration(
                    "--authorization-config excludes --authorization-mode and --authorization-webhook-… flags"
                )
            return authorization.load(flags.config)
        settings = WebhookSettings(
            version=flags.webhook_version,
            authorized_ttl=flags.webhook_authorized_ttl,
            unauthorized_ttl=flags.webhook_unauthorized_ttl,
        )
        return tuple(
            authorization.Part(mode, flags.webhook, settings) if mode == "Webhook" else authorization.Part(mode)
            for mode in flags.modes or _DEFAULT_MODES
        )


async def keep_current(file: Path, reload: Callable[[], None]) -> None:
    """Call `reload` whenever a file has changed, as long as the server runs; what is wrong is logged and not used."""
    before = _content(file)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        found = _content(file)
        if found is None or found == before:
            continue
        before = found
        try:
            reload()
        except BadConfiguration as error:
            log.error("the new configuration is not used: %s", error)
        else:
            log.info("%s was read again", file)


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
