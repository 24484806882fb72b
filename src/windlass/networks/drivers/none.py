"""`none`: a network namespace with nothing but loopback."""

from __future__ import annotations

from windlass.networks.drivers.driver import Plug, PlugRequest
from windlass.networks.firewall import BridgeRules
from windlass.networks.sandbox import Sandbox


class NullNetwork:
    """The network that connects nothing. The API calls its driver `null`."""

    kind = "null"

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def rules(self) -> BridgeRules | None:
        return None

    def plug(self, sandbox: Sandbox, request: PlugRequest) -> Plug:
        return Plug()

    @property
    def has_services(self) -> bool:
        """See Driver.has_services."""
        return False

    def reach_itself(self, plug: Plug) -> None:
        pass

    def adopt(self, plug: Plug) -> None:
        pass

    def release(self, plug: Plug) -> None:
        pass
