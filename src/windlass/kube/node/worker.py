"""One pod's life on this node: a task that brings what runs in line with what is wanted, whenever something happens.

    update ─┐                      ┌─ volumes ─ sandbox ─ images ─ containers        (plan.py says which)
    end of a container ─┼▶ wake ─▶ sync ─┤
    probe, timer ─┘                └─ status ─▶ API

It never waits for the cluster: what cannot be done now is said in the status and tried again. All that it knows can be
found again from the engine and the disk, so a new agent goes on where an old one was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from windlass.engine.sandboxes import Sandbox
from windlass.errors import WindlassError
from windlass.kube.api import objects
from windlass.kube.api.status import StatusError
from windlass.kube.node import containers as specs
from windlass.kube.node import environment, hooks, messages, namefiles, plan, resources, status
from windlass.kube.node.backoff import Backoff
from windlass.kube.node.containers import BadContainer, Circumstances
from windlass.kube.node.environment import BadEnvironment
from windlass.kube.node.events import NORMAL, WARNING, field_path
from windlass.kube.node.images import ImageProblem
from windlass.kube.node.mountplaces import Held, places
from windlass.kube.node.plan import FAILED, SUCCEEDED, Start
from windlass.kube.node.probes.prober import ContainerProbes
from windlass.kube.node.resizer import Resizer
from windlass.kube.node.rooms import PodGone, Rooms
from windlass.kube.node.runtime import INIT, REGULAR, Found
from windlass.kube.node.status import Verdict, View, Waiting
from windlass.kube.node.volumes import Mounted, VolumeError

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

_TRIED_AGAIN: Final = ("CreateContainerConfigError", "CreateContainerError")
_RETRY_FIRST, _RETRY_LONGEST = 0.5, 60.0
_LEAST_GRACE: Final = 2
_SECOND = 10**9


class PodWorker:
    """See the module. `start` it once; `update` and `wake` it as often as you like.

    Attributes:
        pod: the pod as the API has it now.
        over: set when nothing of the pod runs any more, or will.
        finished: set when the pod has left the node and nothing of it is here.
    """

    def __init__(self, rooms: Rooms, pod: Object, *, is_static: bool = False) -> None:
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.is_static = is_static
        self.over = asyncio.Event()
        self.finished = asyncio.Event()
        self._rooms = rooms
        self._wakened = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._probes: dict[str, ContainerProbes] = {}
        self._backoff = Backoff()
        self._waiting: dict[str, Waiting] = {}
        self._messages: dict[str, str] = {}
        self._images: dict[str, tuple[str, str]] = {}
        self._outcome = ""
        self._verdict: Verdict | None = None
        self._deleted = False
        self._seen_now = False
        self._retry = _RETRY_FIRST
        self._volumes: dict[str, Mounted] = {}
        self._mounted_at = 0.0
        self._written: Object | None = None
        self._cgroup = ""
        self._stopping: set[str] = set()
        self._resizer = Resizer(rooms, self._tell, is_static=is_static)

    # From outside --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        name = self.pod["metadata"]["name"]
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"pod {name}")
        self.wake()

    async def stop(self) -> None:
        """Let go; the pod's containers go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._stop_probes()

    def wake(self) -> None:
        """Something has happened."""
        self._wakened.set()

    def update(self, pod: Object) -> None:
        """The pod has changed."""
        self.pod = pod
        self.wake()

    def show_again(self) -> None:
        """The API shows nothing of the pod's status any more: tell it again."""
        self._written = None
        self.wake()

    def delete(self) -> None:
        """The pod is gone from where it came from: end it, at once if that is the API."""
        self._deleted = True
        self.wake()

    def evict(self, reason: str, message: str, *, disruption: bool) -> bool:
        """End the pod, which the node can no longer keep; False where it is ending already.

        `disruption`: the pod goes for others' sake, which its conditions say.
        """
        if self._verdict is not None or self._outcome or self._terminating:
            return False
        self._verdict = Verdict(reason, message, disruption)
        self.wake()
        return True

    @property
    def allocated(self) -> Object:
        """The pod as the node has admitted it: with what it was given in the place of what it asks for."""
        return self._resizer.allocated(self.pod)

    @property
    def waits_for_room(self) -> bool:
        """Whether a resize of the pod is held back because of other pods."""
        return self._resizer.waits

    # The task ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self.finished.is_set():
            await self._wakened.wait()
            self._wakened.clear()
            try:
                again = await self._sync()
                self._retry = _RETRY_FIRST
            except asyncio.CancelledError:
                raise
            except PodGone:
                self._deleted = True
                again = 0.0
            except StatusError as error:
                log.warning("pod %s: %s", self._shown, error)
                again = self._next_retry()
            except Exception as error:
                log.warning("pod %s: %s", self._shown, error, exc_info=not isinstance(error, WindlassError | OSError))
                again = self._next_retry()
            if again is not None:
                asyncio.get_running_loop().call_later(again, self.wake)

    def _next_retry(self) -> float:
        delay = self._retry
        self._retry = min(self._retry * 2, _RETRY_LONGEST)
        return delay

    @property
    def _shown(self) -> str:
        metadata = self.pod["metadata"]
        return f"{metadata['namespace']}/{metadata['name']}"

    @property
    def _terminating(self) -> bool:
        return self._deleted or "deletionTimestamp" in self.pod["metadata"]

    async def _sync(self) -> float | None:
        """One step; seconds until the next one, None for the next event."""
        if self._terminating:
            await self._leave()
            return None
        if not self._seen_now:
            self._take_up()
        if self._outcome or self._verdict is not None:
            return await self._end()
        deadline = self._deadline()
        if deadline is not None and deadline <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            self._verdict = Verdict("DeadlineExceeded", message)
            self._tell(NORMAL, "DeadlineExceeded", message)
            return await self._end()
        again = await self._advance()
        return min((each for each in (again, deadline) if each is not None), default=None)

    def _take_up(self) -> None:
        """What an earlier agent has already decided."""
        self._seen_now = True
        self._resizer.begin(self.pod, runs=self._rooms.runtime.sandbox(self.uid) is not None)
        before = self.pod.get("status") or {}
        if before.get("phase") in (SUCCEEDED, FAILED):
            self._outcome = before["phase"]
            if before.get("reason"):
                self._verdict = Verdict(before["reason"], before.get("message") or "")

    def _deadline(self) -> float | None:
        """Seconds that the pod may still be active."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        begun = (self.pod.get("status") or {}).get("startTime")
        if limit is None or not begun:
            return None
        return float(objects.seconds(begun) + limit - time.time())

    # Going forward -------------------------------------------------------------------------------------------------

    async def _advance(self) -> float | None:
        rooms, pod = self._rooms, self.pod
        found = rooms.runtime.containers(self.uid)
        sandbox = rooms.runtime.sandbox(self.uid)
        self._follow_probes(found, sandbox)
        again: float | None = None
        if sandbox is None and (refusal := rooms.admit(pod)) is not None and not found:
            self._verdict = Verdict(refusal[0], f"Pod was rejected: {refusal[1]}")
            self._tell(WARNING, refusal[0], refusal[1])
            return await self._end()
        if not self._written:
            await self._report(found, sandbox, plan.Plan())
        try:
            again = await self._mount()
        except VolumeError as error:
            self._tell(WARNING, "FailedMount", str(error))
            await self._report(found, sandbox, plan.Plan())
            return self._next_retry()
        self._retry = _RETRY_FIRST
        if sandbox is None:
            try:
                sandbox = await self._make_sandbox()
            except WindlassError as error:
                self._tell(WARNING, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
                await self._report(found, None, plan.Plan())
                return self._next_retry()
        resized = await self._resizer.advance(pod, found, await self._ensure_cgroup())
        found = rooms.runtime.containers(self.uid)
        for _ in range(_most_steps(pod)):
            decided = self._decide(found, sandbox)
            if decided.outcome:
                self._outcome = decided.outcome
                return await self._end()
            if not decided.starts and not decided.kills:
                break
            progress = await self._carry_out(decided, sandbox)
            found = rooms.runtime.containers(self.uid)
            self._follow_probes(found, sandbox)
            if not progress:
                break
        if self._resizer.replaced:
            # Those that were restarted for their limits have them now.
            await self._resizer.advance(pod, found, await self._ensure_cgroup())
        decided = self._decide(found, sandbox)
        if decided.outcome:
            self._outcome = decided.outcome
            return await self._end()
        await self._report(found, sandbox, decided)
        waits = [*decided.waits.values(), *self._image_waits.values()]
        waits += [each for each in (again, resized) if each is not None]
        if self._problems_left():
            waits.append(self._next_retry())
        await self._forget_old(found)
        return min(waits, default=None)

    _image_waits: Mapping[str, float] = {}

    def _problems_left(self) -> bool:
        return any(
            each.reason in ("CreateContainerConfigError", "CreateContainerError") for each in self._waiting.values()
        )

    def _decide(self, found: list[Found], sandbox: Sandbox) -> plan.Plan:
        return plan.decide(
            self.allocated,
            found,
            sandbox=sandbox.id,
            health=self._probes,
            now=time.time_ns(),
            delay=self._backoff.delay,
            resized=self._resizer.replaced,
        )

    async def _carry_out(self, decided: plan.Plan, sandbox: Sandbox) -> bool:
        """Do what was decided; whether anything was done."""
        progress = False
        for kill in decided.kills:
            self._tell(NORMAL, "Killing", kill.message, kill.found.name)
            grace = kill.grace if kill.grace is not None else self._grace()
            await self._stop_container(kill.found, grace)
            progress = True
        for stale in decided.stale:
            await self._rooms.runtime.remove(stale.id)
        self._image_waits = {}
        for start in decided.starts:
            if self._terminating:
                return False
            if await self._start_container(start, sandbox):
                progress = True
            elif start.kind == INIT and not resources.is_sidecar(start.container):
                break
        return progress

    async def _mount(self) -> float | None:
        """Have the volumes; seconds until they have to be looked at again."""
        now = time.monotonic()
        refresh = min((each.refresh for each in self._volumes.values() if each.refresh is not None), default=None)
        due = refresh is None or now - self._mounted_at >= refresh
        if not self._volumes or due or self._rooms.references_changed(self.uid):
            self._volumes = await self._rooms.volumes.mount(self.pod)
            self._mounted_at = now
            refresh = min((each.refresh for each in self._volumes.values() if each.refresh is not None), default=None)
        return None if refresh is None else max(self._mounted_at + refresh - now, 0.1)

    async def _make_sandbox(self) -> Sandbox:
        rooms, pod, spec = self._rooms, self.pod, self.pod["spec"]
        hosted = bool(spec.get("hostNetwork"))
        domain = rooms.settings.cluster_domain
        hostname = rooms.settings.hostname if hosted else namefiles.hostname(pod, domain)
        if spec.get("setHostnameAsFQDN") and len(hostname) > 64:
            raise BadHostname(f"Failed to construct FQDN from pod hostname: {hostname!r} is longer than 64 characters")
        rooms.runtime_handler(pod)
        sysctls = {each["name"]: each["value"] for each in (spec.get("securityContext") or {}).get("sysctls") or ()}
        if not hosted:
            sysctls.setdefault("net.ipv4.ip_unprivileged_port_start", "0")
            sysctls.setdefault("net.ipv4.ping_group_range", "0 2147483647")
        sandbox = await rooms.runtime.make_sandbox(
            pod,
            hostname=hostname,
            network=None if hosted else rooms.network,
            host_ipc=bool(spec.get("hostIPC")),
            ports={} if hosted else _host_ports(spec),
            sysctls=sysctls,
        )
        try:
            rooms.runtime.write_name_files(sandbox, rooms.name_files(pod, sandbox.addresses))
            await self._ensure_cgroup()
        except BaseException:
            await rooms.runtime.remove_sandbox(sandbox)
            raise
        return sandbox

    async def _ensure_cgroup(self) -> str:
        """The pod's control group, made where this agent has not made it. Raises OSError."""
        if not self._cgroup:
            self._cgroup = await self._rooms.cgroups.ensure(self.allocated, self._rooms.qos(self.pod))
        return self._cgroup

    # Containers ----------------------------------------------------------------------------------------------------

    async def _start_container(self, start: Start, sandbox: Sandbox) -> bool:
        """Start one container; False where it has to wait, which its status says then."""
        rooms, container, name = self._rooms, start.container, start.container["name"]
        try:
            identity = await self._create_container(start, sandbox)
        except ImageProblem as error:
            self._waiting[name] = Waiting(error.reason, str(error))
            if error.again is not None:
                self._image_waits = {**self._image_waits, name: error.again}
            return False
        except (BadContainer, BadEnvironment) as error:
            reason = error.reason if isinstance(error, BadContainer) else "CreateContainerConfigError"
            self._waiting[name] = Waiting(reason, str(error))
            self._tell(WARNING, "Failed", f"Error: {error}", name)
            return False
        except WindlassError as error:
            self._waiting[name] = Waiting("CreateContainerError", str(error))
            self._tell(WARNING, "Failed", f"Error: {error}", name)
            return False
        self._waiting.pop(name, None)
        if start.attempt:
            self._backoff.failed(name, time.time())
        self._tell(NORMAL, "Created", f"Created container: {name}", name)
        try:
            await rooms.runtime.start(identity)
        except WindlassError as error:
            self._tell(WARNING, "Failed", f"Error: {error}", name)
            return True
        finally:
            rooms.release_held(identity)
        self._tell(NORMAL, "Started", f"Started container {name}", name)
        if hook := (container.get("lifecycle") or {}).get("postStart"):
            await self._post_start(container, hook, identity)
        return True

    async def _create_container(self, start: Start, sandbox: Sandbox) -> str:
        rooms, pod, container = self._rooms, self.allocated, start.container
        namespace = pod["metadata"]["namespace"]
        find = rooms.find(namespace)
        image = await rooms.images.ensure(pod, container, find)
        for volume in self._images_shown_in(container):
            await rooms.images.ensure(pod, {"name": container["name"], **volume}, find)
        shown = dict(pod, status=dict(pod.get("status") or {}))
        shown["status"] |= {"hostIP": rooms.settings.address, "hostIPs": [{"ip": rooms.settings.address}]}
        addresses = sandbox.addresses or [rooms.settings.address]
        shown["status"] |= {"podIP": addresses[0], "podIPs": [{"ip": each} for each in addresses]}
        found = await rooms.referenced(pod, container)
        variables = environment.make(
            shown,
            container,
            lambda resource, name: found.get((resource, name)),
            rooms.allocatable(),
            rooms.services(pod),
        )
        message_file = await asyncio.to_thread(
            messages.prepare, rooms.volumes.directory(self.uid), container["name"], start.attempt
        )
        given = Circumstances(
            pod=pod,
            kind=start.kind,
            attempt=start.attempt,
            environment=variables,
            mounts=(),
            message_file=message_file,
            image=image.id,
            image_user=str(image.execution.get("User") or ""),
            cgroup_parent=await self._ensure_cgroup(),
            qos=rooms.qos(pod),
            capacity=rooms.machine.memory,
            lowest_oom_score=rooms.machine.lowest_oom_score,
            pid_of=await self._pid_of(start, sandbox),
            runtime=rooms.runtime_handler(pod),
        )
        with Held() as held:
            mounts = places(container, self._volumes, variables, held)
            target = container.get("terminationMessagePath") or specs.MESSAGE_PATH
            mounts.append(specs.Mount(source=message_file, target=target))
            body = specs.body(container, specs.with_mounts(given, mounts))
            name = specs.name_of(pod, container["name"], start.attempt)
            identity = await self._create(sandbox, name, body)
            held.keep_for(identity, rooms.held)
        return identity

    def _images_shown_in(self, container: Object) -> Iterator[Object]:
        """The images that a container has as volumes, with their pull policies."""
        mounted = {each["name"] for each in container.get("volumeMounts") or ()}
        for volume in self.pod["spec"].get("volumes") or ():
            if volume["name"] in mounted and (source := volume.get("image")):
                yield {"image": source.get("reference", ""), "imagePullPolicy": source.get("pullPolicy")}

    async def _create(self, sandbox: Sandbox, name: str, body: Object) -> str:
        return await self._rooms.runtime.create(sandbox, name, body)

    async def _pid_of(self, start: Start, sandbox: Sandbox) -> str:
        """The container whose processes are to be seen too."""
        target = start.container.get("targetContainerName")
        if target:
            last = plan.latest(self._rooms.runtime.containers(self.uid)).get(target)
            if last is None or not last.running:
                raise BadContainer(f"target container {target!r} is not running", "CreateContainerError")
            return last.id
        if self.pod["spec"].get("shareProcessNamespace"):
            return await self._rooms.process_roots.ensure(self.pod, sandbox, self._cgroup)
        return ""

    async def _post_start(self, container: Object, hook: Object, identity: str) -> None:
        name = container["name"]
        answer = await hooks.run(hook, container, self._address(), self._execute(identity))
        if not answer.ok:
            self._tell(WARNING, "FailedPostStartHook", f"PostStartHook failed: {answer.message}", name)
            found = next((each for each in self._rooms.runtime.containers(self.uid) if each.id == identity), None)
            if found is not None and found.running:
                self._tell(NORMAL, "Killing", "FailedPostStartHook", name)
                await self._stop_container(found, self._grace())

    def _address(self) -> str:
        sandbox = self._rooms.runtime.sandbox(self.uid)
        return sandbox.addresses[0] if sandbox is not None and sandbox.addresses else self._rooms.settings.address

    def _execute(self, identity: str) -> Any:
        async def execute(command: list[str]) -> tuple[int, bytes]:
            return await self._rooms.runtime.exec(identity, command, 10 << 10)

        return execute

    # Probes --------------------------------------------------------------------------------------------------------

    def _follow_probes(self, found: list[Found], sandbox: Sandbox | None) -> None:
        """Have probes of what runs, and of nothing else."""
        running = {each.id: each for each in found if each.running}
        for identity in self._probes.keys() - running.keys():
            self._probes.pop(identity).stop()
        by_name = {each["name"]: each for each in _all_containers(self.pod)}
        for identity, each in running.items():
            if identity in self._probes or each.name not in by_name:
                continue
            container = by_name[each.name]
            self._probes[identity] = ContainerProbes(
                container,
                address=sandbox.addresses[0] if sandbox is not None and sandbox.addresses else "127.0.0.1",
                started_at=each.started_at / _SECOND,
                execute=self._execute(identity),
                changed=self.wake,
                failed=self._probe_failed(each.name),
            )

    def _probe_failed(self, name: str) -> Any:
        def failed(kind: str, message: str) -> None:
            self._tell(WARNING, "Unhealthy", f"{kind.capitalize()} probe failed: {message}", name)

        return failed

    def probe_counts(self) -> Iterator[tuple[str, str, str, int]]:
        """How probes of what runs went: container, kind, result, number."""
        for probes in self._probes.values():
            for (kind, result), count in probes.counts.items():
                yield probes.container, kind, result, count

    def _stop_probes(self) -> None:
        for probes in self._probes.values():
            probes.stop()
        self._probes.clear()

    # The end -------------------------------------------------------------------------------------------------------

    def _grace(self) -> int:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        wanted = metadata.get("deletionGracePeriodSeconds")
        if wanted is None:
            wanted = spec.get("terminationGracePeriodSeconds")
        return 30 if wanted is None else int(wanted)

    async def _stop_container(self, found: Found, grace: int) -> None:
        """preStop, its signal, and SIGKILL when the grace period is over."""
        if found.id in self._stopping:
            return
        self._stopping.add(found.id)
        try:
            begun = time.monotonic()
            container = next((each for each in _all_containers(self.pod) if each["name"] == found.name), None)
            hook = ((container or {}).get("lifecycle") or {}).get("preStop")
            if hook and grace > 0 and container is not None:
                try:
                    async with asyncio.timeout(grace):
                        answer = await hooks.run(hook, container, self._address(), self._execute(found.id))
                    if not answer.ok:
                        self._tell(WARNING, "FailedPreStopHook", "PreStopHook failed", found.name)
                except TimeoutError:
                    log.debug("the preStop hook of %s took too long", found.name)
            left = grace - (time.monotonic() - begun)
            seconds = max(round(left), _LEAST_GRACE) if grace > 0 else 0
            await self._rooms.runtime.stop(found.id, signal="" if grace > 0 else "SIGKILL", seconds=seconds)
        finally:
            self._stopping.discard(found.id)

    async def _stop_all(self, *, grace: int) -> None:
        """End all containers: the regular ones at once, then the sidecars, the last one first."""
        running = [each for each in self._rooms.runtime.containers(self.uid) if each.running]
        sidecars = [each["name"] for each in self.pod["spec"].get("initContainers") or () if resources.is_sidecar(each)]
        begun = time.monotonic()
        first = [each for each in running if each.name not in sidecars]
        for each in running:
            self._tell(NORMAL, "Killing", f"Stopping container {each.name}", each.name)
        await asyncio.gather(*(self._stop_container(each, grace) for each in first))
        for each in sorted(
            (each for each in running if each.name in sidecars), key=lambda one: -sidecars.index(one.name)
        ):
            left = grace - round(time.monotonic() - begun)
            await self._stop_container(each, max(left, _LEAST_GRACE) if grace > 0 else 0)

    async def _end(self) -> float | None:
        """The pod is over; it stays in the API, and its logs stay here."""
        rooms = self._rooms
        grace = self._grace() if self._verdict is None or self._verdict.reason != "Evicted" else _LEAST_GRACE
        await self._stop_all(grace=grace)
        self._stop_probes()
        found = rooms.runtime.containers(self.uid)
        if not self._outcome:
            self._outcome = FAILED
        sandbox = rooms.runtime.sandbox(self.uid)
        over = plan.Plan(initialized=self._was_initialized(found))
        await self._report(found, sandbox, over)
        if sandbox is not None:
            await rooms.process_roots.remove(self.uid)
            await rooms.runtime.remove_sandbox(sandbox)
            await rooms.cgroups.remove(self.uid)
            await rooms.volumes.remove_mounts(self.uid)
            await self._report(found, None, over)
        self.over.set()
        return None

    def _was_initialized(self, found: list[Found]) -> bool:
        return not self.pod["spec"].get("initContainers") or any(each.kind == REGULAR for each in found)

    async def _leave(self) -> None:
        """The pod was deleted: end it, take everything away, and tell the API that it is gone."""
        rooms = self._rooms
        found = rooms.runtime.containers(self.uid)
        sandbox = rooms.runtime.sandbox(self.uid)
        if any(each.running for each in found):
            in_time = not self._deleted or self.is_static
            await self._stop_all(grace=self._grace() if in_time else min(self._grace(), _LEAST_GRACE))
        self._stop_probes()
        found = rooms.runtime.containers(self.uid)
        if not self._deleted:
            if not self._outcome:
                codes = [each.exit_code for each in plan.latest(found).values()]
                self._outcome = FAILED if any(codes) or not codes else SUCCEEDED
            with contextlib.suppress(StatusError, PodGone):
                await self._report(found, sandbox, plan.Plan(initialized=self._was_initialized(found)))
        await rooms.process_roots.remove(self.uid)
        for each in found:
            await rooms.runtime.remove(each.id)
        if sandbox is not None:
            await rooms.runtime.remove_sandbox(sandbox)
        await rooms.cgroups.remove(self.uid)
        await rooms.volumes.remove(self.uid)
        if not self._deleted:
            await rooms.forget_pod(self.pod)
        self.over.set()
        self.finished.set()

    async def _forget_old(self, found: list[Found]) -> None:
        """Keep the last attempt that ended of each name, for its log; remove the ones before."""
        by_name: dict[str, list[Found]] = {}
        for each in found:
            by_name.setdefault(each.name, []).append(each)
        for attempts in by_name.values():
            for old in [each for each in attempts if each.ended][:-1]:
                self._messages.pop(old.id, None)
                await self._rooms.runtime.remove(old.id)

    # What is told --------------------------------------------------------------------------------------------------

    async def _report(self, found: list[Found], sandbox: Sandbox | None, decided: plan.Plan) -> None:
        """Write the status, if it has changed. Raises StatusError."""
        rooms, before = self._rooms, self.pod.get("status") or {}
        specs_by_name = {each["name"]: each for each in _all_containers(self.pod)}
        for each in found:
            if each.id not in self._images:
                self._images[each.id] = rooms.image_names(each)
            if each.ended and each.id not in self._messages:
                self._messages[each.id] = await messages.read(
                    each, specs_by_name.get(each.name) or {}, rooms.tail_of_log
                )
        known = [address["ip"] for address in before.get("podIPs") or ()]
        hosted = bool(self.pod["spec"].get("hostNetwork"))
        addresses = [rooms.settings.address] if hosted and sandbox is not None else []
        if sandbox is not None and sandbox.addresses:
            addresses = sandbox.addresses
        view = View(
            found=found,
            waiting=self._waiting,
            held_back={name: self._backoff.delay(name) for name in decided.waits},
            health=self._probes,
            messages=self._messages,
            images=self._images,
            outcome=self._outcome,
            verdict=self._verdict,
            initialized=decided.initialized,
            has_sandbox=sandbox is not None,
            addresses=addresses or known,
            host_address=rooms.settings.address,
            allocation=self._resizer.allocation,
            actual=self._resizer.actual,
            resize=self._resizer.progress,
            started_at=before.get("startTime") or objects.timestamp(time.time()),
            now=time.time(),
        )
        for name in decided.waits:
            self._tell_back_off(name)
        new = status.make(self.pod, view)
        # Others may have written, too: whoever took the node for lost, say.
        is_written = new == self._written and (self.is_static or _conditions(before) == _conditions(new))
        if is_written or (self._written is None and new == before and not self.is_static):
            self._written = new
            return
        if self.is_static:
            self.pod = {**self.pod, "status": new}
        if await rooms.write_status(self.pod, lambda live: status.make(live, view)):
            self._written = new

    def _tell_back_off(self, name: str) -> None:
        message = f"Back-off restarting failed container {name} in pod {self._name_and_uid}"
        self._tell(WARNING, "BackOff", message, name)

    @property
    def _name_and_uid(self) -> str:
        metadata = self.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"

    def _tell(self, kind: str, reason: str, message: str, container: str = "") -> None:
        path = field_path(self.pod, container) if container else ""
        self._rooms.recorder.event(self.pod, kind, reason, message, field_path=path)


class BadHostname(WindlassError):
    """A host name that the kernel does not take."""


def _all_containers(pod: Object) -> list[Object]:
    spec = pod["spec"]
    return [
        *(spec.get("initContainers") or ()),
        *spec["containers"],
        *(spec.get("ephemeralContainers") or ()),
    ]


def _most_steps(pod: Object) -> int:
    return len(_all_containers(pod)) + 1


def _host_ports(spec: Object) -> dict[str, list[dict[str, str]] | None]:
    """`HostConfig.PortBindings` for the host ports of all containers."""
    found: dict[str, list[dict[str, str]] | None] = {}
    for container in resources.containers(spec):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                key = f"{port['containerPort']}/{(port.get('protocol') or 'TCP').lower()}"
                entry = {"HostIp": port.get("hostIP") or "", "HostPort": str(port["hostPort"])}
                (found.setdefault(key, []) or []).append(entry)
    return found


def _conditions(status: Object) -> dict[str, str]:
    return {each["type"]: each["status"] for each in status.get("conditions") or ()}
