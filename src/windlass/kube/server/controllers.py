"""Which controllers a cluster has. The server that leads runs them; they are made anew each time one begins to lead."""

from __future__ import annotations

from typing import Protocol

from windlass.cluster.certificates import Authority
from windlass.kube.api.allocation import networks_of
from windlass.kube.api.custom.establishing import EstablishingController
from windlass.kube.api.identity import Authorizer
from windlass.kube.client import Client
from windlass.kube.controllers.certificates import CertificateController
from windlass.kube.controllers.cronjob.controller import CronJobController
from windlass.kube.controllers.daemonset.controller import DaemonSetController
from windlass.kube.controllers.deployment.controller import DeploymentController
from windlass.kube.controllers.disruption import DisruptionController
from windlass.kube.controllers.endpoints import EndpointsController
from windlass.kube.controllers.endpointslice import EndpointSliceController
from windlass.kube.controllers.endpointslice_mirroring import EndpointSliceMirroringController
from windlass.kube.controllers.garbage_collector import GarbageCollector
from windlass.kube.controllers.job.controller import JobController
from windlass.kube.controllers.namespaces import NamespaceController
from windlass.kube.controllers.node_ipam import NodeIPAMController
from windlass.kube.controllers.node_lifecycle import NodeLifecycleController
from windlass.kube.controllers.node_taints import NodeTaintController
from windlass.kube.controllers.pod_gc import PodGarbageCollector
from windlass.kube.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from windlass.kube.controllers.resource_quota import ResourceQuotaController
from windlass.kube.controllers.role_aggregation import RoleAggregationController
from windlass.kube.controllers.service_accounts import RootCAPublisher, ServiceAccountController
from windlass.kube.controllers.service_lb import ServiceLBController
from windlass.kube.controllers.statefulset.controller import StatefulSetController
from windlass.kube.controllers.storage.binder import PersistentVolumeBinder
from windlass.kube.controllers.storage.ephemeral import EphemeralVolumeController
from windlass.kube.controllers.storage.protection import ClaimProtectionController, VolumeProtectionController
from windlass.kube.controllers.taint_eviction import TaintEvictionController
from windlass.kube.controllers.token_cleaner import TokenCleaner
from windlass.kube.controllers.ttl_after_finished import TTLAfterFinishedController
from windlass.kube.scheduler.configuration import Configuration
from windlass.kube.scheduler.scheduler import Scheduler
from windlass.kube.server.arguments import Arguments


class Runs(Protocol):
    """What a controller has in common with the scheduler."""

    def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """End."""


def controllers(
    client: Client,
    authority: Authority,
    authorizer: Authorizer,
    arguments: Arguments,
    scheduling: Configuration,
) -> list[Runs]:
    """Those that only the leader runs."""
    return [
        NamespaceController(client),
        ServiceAccountController(client),
        RootCAPublisher(client, authority.certificate_pem.decode()),
        RoleAggregationController(client),
        GarbageCollector(client),
        EstablishingController(client),
        ResourceQuotaController(client),
        CertificateController(client, authority, authorizer),
        TokenCleaner(client),
        NodeIPAMController(client, networks_of(arguments.cluster_cidr)),
        NodeTaintController(client),
        NodeLifecycleController(client),
        TaintEvictionController(client),
        EndpointSliceController(client),
        EndpointsController(client),
        EndpointSliceMirroringController(client),
        ReplicaSetController(client),
        DeploymentController(client),
        ReplicationControllerController(client),
        DaemonSetController(client),
        StatefulSetController(client),
        JobController(client),
        DisruptionController(client),
        CronJobController(client),
        TTLAfterFinishedController(client),
        PodGarbageCollector(client),
        PersistentVolumeBinder(client),
        EphemeralVolumeController(client),
        ClaimProtectionController(client),
        VolumeProtectionController(client),
        ServiceLBController(client),
        Scheduler(client.named("system:kube-scheduler"), scheduling),
    ]
