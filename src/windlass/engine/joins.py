"""Sharing another container's namespaces: who that is, whether it can be joined now, and by which path.

The path is a file of the other's init process, which the engine knows to run: its monitor, whose child it is, reports
the end before the pid can be given to somebody else, and the runtime checks what it opened.
"""

from __future__ import annotations

from windlass.engine import modes
from windlass.engine.container import Container
from windlass.engine.sandboxes import Sandbox
from windlass.engine.store import ContainerStore
from windlass.errors import Conflict, InvalidParameter, NotFound, SystemFailure


def restarting(container: Container) -> Conflict:
    """The error for what cannot be done while a container waits for its restart."""
    return Conflict(f"Container {container.id} is restarting, wait until the container is running")


def not_running(container: Container) -> Conflict:
    """The error for what needs a running container."""
    return Conflict(f"container {container.id} is not running")


def _donor(store: ContainerStore, reference: str, what: str) -> Container:
    try:
        donor = store.find(reference)
    except (NotFound, InvalidParameter) as error:
        raise SystemFailure(f"{what}: {error}") from None
    if not donor.state.running:
        raise Conflict(f"{what}: {not_running(donor)}")
    if donor.state.restarting:
        raise Conflict(f"{what}: {restarting(donor)}")
    return donor


def network_donor(store: ContainerStore, container: Container) -> Container | None:
    """The running container whose network `container` uses. Raises `Conflict`, `SystemFailure`."""
    reference = container.shares_network_of
    if reference is None or reference == container.sandbox:
        return None
    try:
        donor = store.find(reference)
    except (NotFound, InvalidParameter) as error:
        raise SystemFailure(f"joining network namespace of container: {error}") from None
    if donor is container:
        raise SystemFailure("cannot join own network namespace")
    if not donor.state.running or donor.state.restarting:
        raise Conflict(
            f"cannot join network namespace of a non running container: container {donor.name} is {donor.state.status}"
        )
    return donor


def namespace_paths(
    store: ContainerStore, container: Container, network_path: str | None, sandbox: Sandbox | None
) -> dict[str, str]:
    """The namespaces that `container` joins, by OCI name. `network_path` is its network's, `sandbox` what it lives in.

    Raises `Conflict`, `SystemFailure`.
    """
    paths: dict[str, str] = sandbox.namespaces() if sandbox is not None else {}
    if network_path is not None:
        paths["network"] = network_path
    for name, file, option, what in (
        ("ipc", "ipc", "IpcMode", "failed to join IPC namespace"),
        ("pid", "pid", "PidMode", "failed to join PID namespace"),
    ):
        reference = modes.shared_container(container.host_config[option])
        if reference is None or reference == container.sandbox:
            continue
        donor = _donor(store, reference, what)
        if name == "ipc" and not donor.shm_path:
            raise InvalidParameter(
                f"{what}: container {donor.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )
        paths[name] = f"/proc/{donor.state.pid}/ns/{file}"
    return paths


def donor_of_shared_memory(store: ContainerStore, container: Container) -> Container | None:
    """The container whose /dev/shm `container` uses."""
    reference = modes.shared_container(container.host_config["IpcMode"])
    return None if reference in {None, container.sandbox} else _donor(store, reference, "failed to join IPC namespace")


def network_path(donor: Container) -> str:
    """A running container's network namespace."""
    return f"/proc/{donor.state.pid}/ns/net"


def replace_names(store: ContainerStore, host_config: dict[str, object]) -> None:
    """Replace names in `container:<name>` modes by IDs, so that a rename does not part them."""
    for option in ("PidMode", "IpcMode", "NetworkMode"):
        reference = modes.shared_container(str(host_config[option]))
        if reference:
            try:
                host_config[option] = modes.sharing(store.find(reference).id)
            except (NotFound, InvalidParameter):
                continue  # it may come to be until the start
