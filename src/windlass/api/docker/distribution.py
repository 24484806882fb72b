"""Tag Distribution: what a registry knows about an image, without pulling it."""

from __future__ import annotations

from typing import Final

from windlass.api.docker.call import Answer, Call, json_answer
from windlass.api.docker.router import get


async def inspect(call: Call) -> Answer:
    """DistributionInspect."""
    return json_answer(await call.engine.distribution_inspect(call.name, auth=call.auth))


ROUTES: Final = (get("/distribution/{name}/json", inspect),)
