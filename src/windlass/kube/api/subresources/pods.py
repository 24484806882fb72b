"""binding, eviction, ephemeralcontainers, resize: what happens to a pod beside its spec."""

from __future__ import annotations

from typing import Any

from windlass.http import Response
from windlass.kube.api import objects, quantity, selectors, status
from windlass.kube.api.handlers import bodies, encoding, patching, single
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.operations import deletion, reading, updating
from windlass.kube.api.operations.deletion import DeleteOptions
from windlass.kube.api.operations.environment import Actor, Environment
from windlass.kube.api.resource import Object
from windlass.kube.api.strategies.pod_defaults import default_container
from windlass.kube.api.strategies.pod_rules import validate_pod_spec

_SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def bind(call: Call) -> Response:
    """POST of a Binding: the scheduler's word on where a pod runs."""
    single.negotiate_object(call)
    call.begin_write("CreateOptions")
    binding = bodies.decode(await bodies.read_bytes(call), bodies.media_type(call), None)
    name = call.info.name or objects.name_of(binding)
    answer = await bind_pod(call.env, call.actor, call.namespace, name, binding)
    return encoding.respond(call, 201, encoding.encode(call.form, answer))


async def bind_pod(env: Environment, actor: Actor, namespace: str, name: str, binding: Object) -> Object:
    """Bind a pod to a node. Raises StatusError: 404, 409, 422."""
    target = binding.get("target") or {}
    node = target.get("name") or ""
    if target.get("kind", "Node") not in ("", "Node"):
        error = status.not_supported("target.kind", target["kind"], ["Node", "<empty>"])
        raise status.invalid("Binding", "", name, [error])
    if not node:
        raise status.invalid("Binding", "", name, [status.required("target.name")])
    pods = env.registry.get("", "v1", "pods")
    assert pods is not None
    metadata = binding.get("metadata") or {}

    def change(pod: Object) -> Object:
        if metadata.get("uid") and metadata["uid"] != pod["metadata"].get("uid"):
            raise status.conflict(
                "pods/binding", "", name, f"Precondition failed: UID in precondition: {metadata['uid']}"
            )
        if pod["metadata"].get("deletionTimestamp"):
            why = f"pod {name} is being deleted, cannot be assigned to a host"
            raise status.conflict("pods/binding", "", name, why)
        if pod["spec"].get("nodeName"):
            why = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
            raise status.conflict("pods/binding", "", name, why)
        if pod["spec"].get("schedulingGates"):
            raise status.conflict("pods/binding", "", name, f"pod {name} has non-empty .spec.schedulingGates")
        pod["spec"]["nodeName"] = node
        for kind in ("annotations", "labels"):
            if metadata.get(kind):
                pod["metadata"][kind] = {**(pod["metadata"].get(kind) or {}), **metadata[kind]}
        found = pod.setdefault("status", {})
        conditions = [each for each in found.get("conditions") or () if each.get("type") != "PodScheduled"]
        scheduled = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": env.timestamp(),
        }
        found["conditions"] = [*conditions, scheduled]
        pod["metadata"].pop("resourceVersion", None)
        return pod

    await updating.update(env, pods, namespace, name, change, actor, subresource="binding", check=False)
    return _SUCCESS


async def evict(call: Call) -> Response:
    """POST of an Eviction: a deletion that the pod's disruption budgets have to allow.

    Source: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
    """
    single.negotiate_object(call)
    call.begin_write("CreateOptions")
    eviction = bodies.decode(await bodies.read_bytes(call), bodies.media_type(call), None)
    answer = await evict_pod(call.env, call.actor, call.namespace, call.info.name, eviction)
    return encoding.respond(call, 201, encoding.encode(call.form, answer))


async def evict_pod(env: Environment, actor: Actor, namespace: str, name: str, eviction: Object) -> Object:
    """Evict a pod. Raises StatusError: 400, 404, 409, 429."""
    own = objects.name_of(eviction)
    if own not in ("", name):
        raise status.bad_request("name in URL does not match name in Eviction object")
    options = eviction.get("deleteOptions") or {}
    if options.get("dryRun"):
        actor.dry_run = True
    pods = env.registry.get("", "v1", "pods")
    assert pods is not None
    pod = await reading.find_object(env, pods, namespace, name)
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed", "Pending")
    if not finished and not pod["metadata"].get("deletionTimestamp"):
        await _take_from_budget(env, actor, namespace, pod)
    await deletion.delete(env, pods, namespace, name, DeleteOptions.from_json(options), actor)
    return _SUCCESS


async def _take_from_budget(env: Environment, actor: Actor, namespace: str, pod: Object) -> None:
    budgets = env.registry.get("policy", "v1", "poddisruptionbudgets")
    assert budgets is not None
    labels = pod["metadata"].get("labels") or {}
    found = []
    selection = reading.Selection(namespace)
    for record in (await reading.page(env, budgets, selection)).records:
        budget = objects.decode(record.value)
        if selectors.matches_label_selector((budget.get("spec") or {}).get("selector"), labels):
            found.append(budget)
    if not found:
        return
    if len(found) > 1:
        raise status.internal_error(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    budget = found[0]
    name = budget["metadata"]["name"]
    is_ready = any(
        each.get("type") == "Ready" and each.get("status") == "True"
        for each in (pod.get("status") or {}).get("conditions") or ()
    )
    state = budget.get("status") or {}
    policy = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") or "IfHealthyBudget"
    if not is_ready and (
        policy == "AlwaysAllow"
        or (state.get("currentHealthy", 0) >= state.get("desiredHealthy", 0) and state.get("desiredHealthy", 0) > 0)
    ):
        return
    pod_name = pod["metadata"]["name"]

    def change(live: Object) -> Object:
        state = live.get("status") or {}
        if state.get("observedGeneration", 0) < live["metadata"].get("generation", 0):
            raise _refusal(name, f"The disruption budget {name} is still being processed by the server.", seconds=10)
        if state.get("disruptionsAllowed", 0) <= 0:
            needed = f"The disruption budget {name} needs {state.get('desiredHealthy', 0)} healthy pods and has "
            raise _refusal(name, f"{needed}{state.get('currentHealthy', 0)} currently")
        state = {**state, "disruptionsAllowed": state["disruptionsAllowed"] - 1}
        state["disruptedPods"] = {**(state.get("disruptedPods") or {}), pod_name: env.timestamp()}
        # Without its version: where the budget's controller writes in between, it is looked at again.
        metadata = {key: value for key, value in live["metadata"].items() if key != "resourceVersion"}
        return {**live, "metadata": metadata, "status": state}

    await updating.update(env, budgets, namespace, name, change, actor, subresource="status", tracked=False)


def _refusal(name: str, message: str, seconds: int = 0) -> status.StatusError:
    error = status.too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
    error.details["causes"] = [{"reason": "DisruptionBudget", "message": message}]
    return error


async def ephemeral_containers(call: Call) -> Response:
    """GET, PUT and PATCH of a pod's ephemeral containers: they may be added, nothing else."""
    if call.info.verb == "get":
        return await single.get(call)

    def restrict(live: Object, wanted: Object) -> Object:
        new = (wanted.get("spec") or {}).get("ephemeralContainers") or []
        old = (live.get("spec") or {}).get("ephemeralContainers") or []
        for container in new:
            default_container(container)
        known = {each.get("name"): each for each in new}
        for index, each in enumerate(old):
            if known.get(each.get("name")) != each:
                why = f'existing ephemeral containers "{each.get("name")}" may not be changed'
                error = status.forbidden_field(f"spec.ephemeralContainers[{index}]", why)
                raise status.invalid("Pod", "", call.info.name, [error])
        result = objects.copy(live)
        result["spec"]["ephemeralContainers"] = new
        if errors := [e for e in validate_pod_spec(result["spec"]) if "ephemeralContainers" in e.field]:
            raise status.invalid("Pod", "", call.info.name, errors)
        return _versioned(result, wanted)

    return await _restricted(call, restrict)


async def resize(call: Call) -> Response:
    """GET, PUT and PATCH of a pod's resources while it runs."""
    if call.info.verb == "get":
        return await single.get(call)

    def restrict(live: Object, wanted: Object) -> Object:
        result = objects.copy(live)
        for kind in ("containers", "initContainers"):
            given = {each.get("name"): each for each in (wanted.get("spec") or {}).get(kind) or ()}
            for container in result["spec"].get(kind) or ():
                other = given.get(container.get("name"))
                if other is None:
                    continue
                for field in ("resources", "resizePolicy"):
                    if field in other:
                        container[field] = other[field]
        for index, container in enumerate(result["spec"].get("containers") or ()):
            _check_resources(call, container, live["spec"]["containers"][index], index)
        return _versioned(result, wanted)

    return await _restricted(call, restrict)


def _check_resources(call: Call, new: dict[str, Any], old: dict[str, Any], index: int) -> None:
    path = f"spec.containers[{index}].resources"
    for field in ("requests", "limits"):
        now, was = ((each.get("resources") or {}).get(field) or {} for each in (new, old))
        for name in was:
            if name not in now:
                error = status.forbidden_field(path, f"resource {field} cannot be removed")
                raise status.invalid("Pod", "", call.info.name, [error])
        for name in now:
            changed = quantity.parse(now[name]) != quantity.parse(was.get(name, "0"))
            if name not in ("cpu", "memory") and changed:
                error = status.forbidden_field(path, "only cpu and memory resources are mutable")
                raise status.invalid("Pod", "", call.info.name, [error])


def _versioned(result: Object, wanted: Object) -> Object:
    result["metadata"]["resourceVersion"] = objects.meta(wanted).get("resourceVersion") or ""
    return result


async def _restricted(call: Call, restrict: Any) -> Response:
    single.negotiate_object(call)
    call.begin_write("UpdateOptions" if call.info.verb == "update" else "PatchOptions")
    if call.info.verb == "update":
        body = await bodies.read_object(call)

        def change(live: Object) -> Object:
            result: Object = restrict(live, objects.copy(body))
            return result
    else:
        plan = await patching.read_patch(call)

        def change(live: Object) -> Object:
            result: Object = restrict(live, plan.change(objects.copy(live)))
            return result

    written = await updating.update(
        call.env,
        call.resource,
        call.namespace,
        call.info.name,
        change,
        call.actor,
        subresource=call.info.subresource,
        check=False,
    )
    return await single.answer(call, written)
