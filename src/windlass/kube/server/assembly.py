"""A cluster's server, put together: every part is made here and handed to those that need it.

store ─ registry ─ cache ─┬ authentication, authorization ─┐
                          ├ admission ─ operations ────────┼▶ API server ─▶ HTTPS
                          └ client ─▶ bootstrap, controllers
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import itertools
import logging
import platform
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from windlass import __version__
from windlass.cluster.pki import PKI, ServingContext, utc_now
from windlass.cluster.signing import AGENT_PREFIX
from windlass.http import Request, Response, Server
from windlass.kube.admission.chain import Chain, Plugin, choose
from windlass.kube.admission.plugins import builtin as builtin_plugins
from windlass.kube.admission.plugins.certificates import certificate_plugins
from windlass.kube.admission.plugins.resource_quota import ResourceQuota
from windlass.kube.admission.plugins.role_escalation import RoleEscalation
from windlass.kube.admission.policies import MutatingAdmissionPolicy, ValidatingAdmissionPolicy
from windlass.kube.admission.webhooks import MutatingAdmissionWebhook, ValidatingAdmissionWebhook
from windlass.kube.agent.configuration import ClusterConfiguration
from windlass.kube.aggregation import Aggregator, AvailabilityController
from windlass.kube.api import reviews, yamlform
from windlass.kube.api.allocation import ServiceHook, networks_of
from windlass.kube.api.audit.log import AuditLog
from windlass.kube.api.audit.policy import BadAuditPolicy, Policy
from windlass.kube.api.audit.recorder import Recorder
from windlass.kube.api.authentication.checked import CheckedTokens
from windlass.kube.api.authentication.serviceaccount import ServiceAccountTokens
from windlass.kube.api.cache import Cache
from windlass.kube.api.custom.establishing import GROUP as CRD_GROUP
from windlass.kube.api.custom.establishing import PLURAL as CRD_PLURAL
from windlass.kube.api.custom.establishing import Server as CustomServer
from windlass.kube.api.custom.resources import openapi_definition
from windlass.kube.api.discovery import Discovery
from windlass.kube.api.dispatch import Answer, Dispatcher
from windlass.kube.api.flowcontrol.gate import Gate
from windlass.kube.api.health import Health
from windlass.kube.api.identity import User
from windlass.kube.api.kubelets import Kubelets
from windlass.kube.api.metrics import Metrics
from windlass.kube.api.operations.environment import Environment
from windlass.kube.api.operations.reading import prefix_end
from windlass.kube.api.registry import Registry
from windlass.kube.api.resources import builtin
from windlass.kube.api.server import APIServer, Page
from windlass.kube.api.serviceresolver import ServiceResolver
from windlass.kube.api.subresources import pods, streams
from windlass.kube.api.subresources import tokens as token_requests
from windlass.kube.api.subresources.proxies import Proxies
from windlass.kube.api.webhooks import WebhookCaller
from windlass.kube.client import Client
from windlass.kube.controllers.leader_election import LeaderElector
from windlass.kube.controllers.resource_quota import QuotaWriter
from windlass.kube.metrics import ResourceMetrics
from windlass.kube.metrics.api import ResourceMetricsAPI
from windlass.kube.openapi import Documents
from windlass.kube.scheduler.configuration import load as load_scheduling
from windlass.kube.schema.catalogue import Catalogue
from windlass.kube.server import encryption, identity
from windlass.kube.server.access import Authentication, Authorization, keep_current
from windlass.kube.server.arguments import Arguments
from windlass.kube.server.bootstrap import bootstrap, publish_dns, publish_server
from windlass.kube.server.controllers import controllers
from windlass.kube.server.endpoints import ServerEndpoints
from windlass.kube.server.joining import authority_page, ensure_node_token
from windlass.store import Store, open_store

log = logging.getLogger("windlass.kube.server")

Elsewhere = Callable[[Request, User], Awaitable[Answer]]

_RENEW_SECONDS = 6 * 3600.0


class Cluster:
    """A running server. `start`, then `stop`."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._undo = contextlib.AsyncExitStack()
        self._is_ready = False
        self.url = ""

    async def start(self) -> None:
        """Serve.

        Raises:
            WindlassError, OSError: nothing is left behind then.
        """
        begun = time.monotonic()
        try:
            await self._start()
        except BaseException:
            await self._undo.aclose()
            raise
        self._is_ready = True
        log.info("ready at %s after %d ms", self.url, round((time.monotonic() - begun) * 1000))

    async def stop(self) -> None:
        """Stop serving and let go of everything."""
        await self._undo.aclose()

    async def _start(self) -> None:
        arguments = self._arguments
        arguments.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        sock = _listen(arguments.bind_address, arguments.port)
        self._undo.callback(sock.close)
        port = sock.getsockname()[1]
        host = arguments.advertise_address
        if host in ("0.0.0.0", "::"):  # compared, not bound
            host = "127.0.0.1"
        self.url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._scheduling = load_scheduling(arguments.scheduler_config)
        pki = PKI(arguments.data_dir / "tls")
        self._ensure_certificates(pki)
        store = await self._open_store()
        self._undo.push_async_callback(store.close)
        api, client = self._assemble(store, pki)
        service = next(networks_of(self._arguments.service_cidr)[0].hosts())
        await bootstrap(client)
        await publish_server(client, str(service), port, self._arguments.service_cidr)
        await publish_dns(client, self._configuration().cluster_dns)
        own = identity.load(arguments.data_dir)
        is_shared = arguments.datastore.startswith(("http", "etcd"))
        endpoints = ServerEndpoints(client, own, self._published_address(), port, is_shared=is_shared)
        self._undo.push_async_callback(endpoints.stop)
        await endpoints.start()
        await self._configuration().publish(client)
        await ensure_node_token(client, arguments.data_dir / "token", pki.ca.certificate_pem, arguments.token)
        self._availability.start()
        self._undo.push_async_callback(self._availability.stop)
        await self._elect(client, pki, own)
        if not arguments.disable_agent:
            await self._start_node(client, pki)
        context = ServingContext(*pki.paths("apiserver"), [pki.ca.certificate_pem, pki.front_proxy_ca.certificate_pem])
        self._undo.push_async_callback(_cancel, asyncio.create_task(self._keep_certificates(pki, context)))
        server = Server(api)
        self._undo.push_async_callback(server.close, 2.0)
        await server.listen(sock, tls=context.context)
        for path in (arguments.data_dir / "cred" / "admin.kubeconfig", arguments.kubeconfig):
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                pki.kubeconfig(path, server=self.url, client="admin")

    async def _elect(self, client: Client, pki: PKI, own: str) -> None:
        """Controllers run in one server of a cluster, as long as it leads."""
        leading = contextlib.AsyncExitStack()

        async def lead() -> None:
            for controller in controllers(client, pki.ca, self._authorizer, self._arguments, self._scheduling):
                controller.start()
                leading.push_async_callback(controller.stop)

        elector = LeaderElector(
            client.named("system:kube-controller-manager"),
            "kube-controller-manager",
            own,
            lead=lead,
            yield_=leading.aclose,
        )
        self._undo.push_async_callback(elector.stop)
        await elector.start()

    def _configuration(self) -> ClusterConfiguration:
        arguments = self._arguments
        hosts = networks_of(arguments.service_cidr)[0].hosts()
        return ClusterConfiguration(
            cluster_cidr=arguments.cluster_cidr,
            service_cidr=arguments.service_cidr,
            cluster_dns=str(next(itertools.islice(hosts, 9, None))),
            cluster_domain=arguments.domain,
            backend=arguments.backend,
        )

    async def _start_node(self, client: Client, pki: PKI) -> None:
        """The engine and the agent in this process."""
        from windlass.kube.node.server.https import Serving
        from windlass.kube.server.node import LocalNode, node_name

        arguments = self._arguments
        name, address = node_name(arguments.node), arguments.node.address or self._published_address()

        def pair() -> tuple[Path, Path]:
            pki.ensure_kubelet(name, (address,))
            return pki.paths(f"kubelet-{name}-serving")

        node = LocalNode(
            arguments.node,
            client.named(f"system:node:{name}"),
            client.named(f"{AGENT_PREFIX}{name}"),
            data_dir=arguments.data_dir / "agent",
            address=address,
            configuration=self._configuration(),
            serving=Serving(pki.ca.certificate_pem, CheckedTokens(self._authenticator), self._authorizer, pair),
        )
        self._undo.push_async_callback(node.stop)
        self._kubelets.add_local(name, lambda: node.kubelet)
        await node.start()

    def _published_address(self) -> str:
        """An address by which others reach us: endpoints may not be loopback."""
        wanted = self._arguments.advertise_address
        found = ipaddress.ip_address(wanted) if wanted.replace(".", "").isdigit() or ":" in wanted else None
        if found is not None and not found.is_loopback and not found.is_unspecified:
            return wanted
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it only asks which address would be ours
            return str(probe.getsockname()[0])
        # No way out: the address that our own pods reach us by.
        return str(next(networks_of(self._arguments.cluster_cidr)[0].hosts()))

    # -- certificates

    def _addresses(self) -> tuple[list[str], list[str]]:
        """Addresses and names for the server's certificate."""
        addresses, names = [], [socket.gethostname()]
        arguments = self._arguments
        own = (arguments.bind_address, arguments.advertise_address, self._published_address(), arguments.node.address)
        for each in (*filter(None, own), *arguments.names):
            try:
                found = ipaddress.ip_address(each)
            except ValueError:
                names.append(each)
            else:
                if not found.is_unspecified and not found.is_loopback:
                    addresses.append(each)
        return addresses, names

    def _ensure_certificates(self, pki: PKI) -> bool:
        addresses, names = self._addresses()
        service = str(next(ipaddress.ip_network(self._arguments.service_cidr).hosts()))
        return pki.ensure(addresses=addresses, service_address=service, domain=self._arguments.domain, names=names)

    async def _keep_certificates(self, pki: PKI, context: ServingContext) -> None:
        """Renew certificates before they end, as long as the server runs."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                if self._ensure_certificates(pki):
                    context.reload()
                    log.info("the server's certificate was renewed")
                self._kubelets.reload()
            except OSError as error:
                log.error("certificates cannot be renewed: %s", error)

    # -- parts

    async def _open_store(self) -> Store:
        arguments = self._arguments
        url = arguments.datastore or f"sqlite://{arguments.data_dir / 'db' / 'state.db'}"
        return await open_store(
            url,
            transformer=encryption.load(arguments.encryption_config),
            ca=arguments.datastore_ca,
            certificate=arguments.datastore_certificate,
            key=arguments.datastore_key,
        )

    def _assemble(self, store: Store, pki: PKI) -> tuple[APIServer, Client]:
        arguments = self._arguments
        registry = Registry()
        catalogue = Catalogue()
        for resource in builtin(catalogue):
            registry.add(resource)
        cache = Cache(store, registry)
        self._undo.callback(cache.close)
        caller = WebhookCaller(ServiceResolver(cache).resolve)
        self._undo.push_async_callback(caller.close)
        authorization = Authorization(arguments.authorization, cache)
        authorizer, rbac = authorization.chain, authorization.rbac
        self._authorizer = authorizer
        admission = Chain(())
        env = Environment(store, registry, admission)
        env.hooks[b"/registry/services/"] = ServiceHook(cache, networks_of(arguments.service_cidr))
        env.creators.update({("pods", "binding"): pods.bind_pod, ("pods", "eviction"): pods.evict_pod})
        client = Client(env, cache)
        plugins: list[Plugin] = [
            *builtin_plugins(cache),
            *certificate_plugins(authorizer),
            MutatingAdmissionPolicy(cache, registry, authorizer),
            MutatingAdmissionWebhook(cache, registry, caller, authorizer),
            ValidatingAdmissionPolicy(cache, registry, authorizer),
            ValidatingAdmissionWebhook(cache, registry, caller, authorizer),
            ResourceQuota(cache, QuotaWriter(client)),
        ]
        if rbac is not None:
            plugins.append(RoleEscalation(rbac, authorizer))
        admission.set_plugins(choose(plugins, arguments.enable_admission, arguments.disable_admission))
        custom = CustomServer(registry, catalogue, caller)
        for definition in cache.list(CRD_GROUP, CRD_PLURAL):
            custom.changed("ADDED", definition)
        cache.subscribe(CRD_GROUP, CRD_PLURAL, custom.changed)
        issuer = arguments.authentication.service_account_issuer or f"https://kubernetes.default.svc.{arguments.domain}"
        key = pki.service_account_key
        assert isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey)  # what PKI makes, or a user put there
        audiences = arguments.authentication.audiences
        accounts = ServiceAccountTokens(cache, key, issuer=issuer, audiences=audiences, clock=time.time)
        env.creators[("serviceaccounts", "token")] = token_requests.creator(accounts)
        authentication = Authentication(arguments.authentication, pki, cache, accounts)
        authenticator = self._authenticator = authentication.union
        for part in (authentication, authorization):
            self._undo.push_async_callback(part.close)
            if part.file is not None:
                self._undo.push_async_callback(_cancel, asyncio.create_task(keep_current(part.file, part.reload)))
        self._kubelets = Kubelets(cache, pki.ca.certificate_pem, *pki.paths("apiserver-kubelet-client"))
        proxies = Proxies(self._kubelets, cache)
        for opened in (self._kubelets, proxies):
            self._undo.push_async_callback(opened.close)
        special = {
            **reviews.handlers(authenticator, authorizer, rbac, authorization.is_complete),
            **streams.handlers(self._kubelets, authorizer),
            **proxies.handlers(),
            ("serviceaccounts", "token"): token_requests.handler(accounts),
        }
        aggregator = Aggregator(cache, ServiceResolver(cache).resolve, *pki.paths("front-proxy-client"))
        self._undo.push_async_callback(aggregator.close)
        self._resource_metrics = ResourceMetrics(self._kubelets, cache)
        self._undo.push_async_callback(self._resource_metrics.close)
        own_metrics = ResourceMetricsAPI(self._resource_metrics, aggregator.service)
        discovery = Discovery(
            registry,
            self.url.removeprefix("https://"),
            lambda: [*aggregator.discovered(), *own_metrics.discovered()],
        )
        self._availability = AvailabilityController(client, aggregator, discovery)
        metrics = Metrics(lambda: _count_objects(store, registry), lambda: store.revision)
        api = APIServer(
            env=env,
            authenticator=authenticator,
            authorizer=authorizer,
            dispatcher=Dispatcher(special),
            discovery=discovery,
            health=Health(
                {"ping": lambda: "", "log": lambda: "", "etcd": lambda: _store_problem(store)},
                {"poststarthook/start": lambda: "" if self._is_ready else "not started"},
            ),
            version=version_info(),
            pages={
                "/openapi/": Documents(registry, catalogue, openapi_definition),
                "/metrics": metrics,
                "/.well-known/openid-configuration": _document(
                    lambda: accounts.discovery(f"{self.url}/openid/v1/jwks")
                ),
                "/openid/v1/jwks": _document(accounts.key_set),
                "/cacerts": authority_page(pki.ca.certificate_pem),
            },
            metrics=metrics,
            outside=lambda info: aggregator.outside(info) or own_metrics.outside(info),
            elsewhere=_first_page(aggregator.page, own_metrics.page),
            gate=Gate(cache, arguments.max_requests),
            recorder=self._recorder(),
        )
        return api, client

    def _recorder(self) -> Recorder | None:
        """The audit log, where a policy says what it records."""
        arguments = self._arguments
        if arguments.audit_policy is None or arguments.audit_log is None:
            return None
        try:
            document = yamlform.load(arguments.audit_policy.read_bytes())
        except yamlform.BadYAML as error:
            raise BadAuditPolicy(f"{arguments.audit_policy}: {error}") from None
        audit_log = AuditLog(
            arguments.audit_log,
            utc_now,
            max_size=arguments.audit_log_megabytes << 20,
            max_backup=arguments.audit_log_backups,
        )
        self._undo.callback(audit_log.close)
        return Recorder(Policy(document), audit_log.write)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=1024)


def _first_page(*pages: Elsewhere) -> Elsewhere:
    """The answer of the first who has one."""

    async def page(request: Request, user: User) -> Answer:
        for each in pages:
            if (found := await each(request, user)) is not None:
                return found
        return None

    return page


def _document(make: Callable[[], Mapping[str, Any]]) -> Page:
    """A page of one JSON document."""

    async def page(request: Request, user: User) -> Response:
        return Response(200, [("Content-Type", "application/json")], orjson.dumps(dict(make())))

    return page


def _count_objects(store: Store, registry: Registry) -> dict[str, int]:
    found = {}
    for resource in registry.storages():
        prefix = resource.storage.prefix
        found[resource.qualified] = store.count(prefix, prefix_end(prefix))
    return found


def _store_problem(store: Store) -> str:
    return "" if store.revision >= 0 else "the store does not answer"


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def version_info() -> dict[str, str]:
    """The document of /version."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": "1",
        "minor": "37",
        "gitVersion": f"v1.37.0+windlass{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": datetime.datetime(2026, 8, 1, tzinfo=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{machine}",
    }
