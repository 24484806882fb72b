"""The plugins in their order, and which of them look at a request.

    mutate:   every plugin that changes things, in order; a second time those that ask for it, if something changed
    validate: every plugin that refuses things, in order

What a plugin looks at is known by resource and operation, so a request that concerns none costs one look-up. Plugins
that need no I/O answer at once; a phase is awaited only from the first plugin on that does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence

from windlass.errors import InvalidParameter
from windlass.kube.admission.attributes import AdmissionRequest

Answer = Awaitable[None] | None


class Plugin:
    """One admission plugin. `name` is upstream's, as flags use it."""

    name = ""

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Whether it looks at such requests at all."""
        raise NotImplementedError

    def mutate(self, request: AdmissionRequest) -> Answer:
        """Change `request.obj`, or refuse with a StatusError."""
        return None

    def validate(self, request: AdmissionRequest) -> Answer:
        """Refuse with a StatusError."""
        return None


class Chain:
    """An `Admission` of plugins."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._known: dict[tuple[str, str, str, str], tuple[Plugin, ...]] = {}

    def set_plugins(self, plugins: Sequence[Plugin]) -> None:
        """Take other plugins: some need what is made with the chain itself."""
        self.plugins = tuple(plugins)
        self._known.clear()

    def _interested(self, request: AdmissionRequest) -> tuple[Plugin, ...]:
        resource = request.resource
        key = (resource.group, resource.plural, request.subresource, request.operation)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(plugin for plugin in self.plugins if plugin.handles(*key))
        return found

    def mutate(self, request: AdmissionRequest) -> Answer:
        """See `Admission.mutate`."""
        plugins = self._interested(request)
        for index, plugin in enumerate(plugins):
            waiting = plugin.mutate(request)
            if waiting is not None:
                return self._rest(waiting, plugins[index + 1 :], request, mutating=True)
        return None

    def validate(self, request: AdmissionRequest) -> Answer:
        """See `Admission.validate`."""
        plugins = self._interested(request)
        for index, plugin in enumerate(plugins):
            waiting = plugin.validate(request)
            if waiting is not None:
                return self._rest(waiting, plugins[index + 1 :], request, mutating=False)
        return None

    async def _rest(
        self, waiting: Awaitable[None], plugins: Sequence[Plugin], request: AdmissionRequest, *, mutating: bool
    ) -> None:
        await waiting
        for plugin in plugins:
            answer = plugin.mutate(request) if mutating else plugin.validate(request)
            if answer is not None:
                await answer


ORDER = (
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "AlwaysPullImages",
    "PodSecurity",
    "PodNodeSelector",
    "Priority",
    "DefaultTolerationSeconds",
    "ExtendedResourceToleration",
    "StorageObjectInUseProtection",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "RoleEscalation",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
)
"""The order in which plugins run, whatever order the flags name them in."""

ALWAYS = frozenset({"RoleEscalation"})
"""What upstream checks where objects are stored, so that no flag turns it off."""

OFF = frozenset(
    {
        "AlwaysPullImages",
        "PodNodeSelector",
        "ExtendedResourceToleration",
        "OwnerReferencesPermissionEnforcement",
    }
)
"""Plugins that run only where `--enable-admission-plugins` names them."""


def choose(plugins: Iterable[Plugin], enable: Sequence[str] = (), disable: Sequence[str] = ()) -> list[Plugin]:
    """The plugins to run, in order.

    Raises:
        InvalidParameter: a flag names none.
    """
    known = {plugin.name: plugin for plugin in plugins}
    for name in (*enable, *disable):
        if name not in known:
            raise InvalidParameter(f'unknown admission plugin "{name}"; known are {", ".join(sorted(known))}')
    chosen = (known.keys() - OFF - set(disable)) | set(enable) | ALWAYS
    return [known[name] for name in ORDER if name in chosen and name in known]
