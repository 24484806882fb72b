"""`windlass agent`: arguments, logging, signals. SIGTERM and SIGINT stop it; pods go on."""

from __future__ import annotations

from windlass.kube.agent.arguments import Arguments, parse_arguments


def main(argv: list[str]) -> int:
    """Run an agent until a signal ends it; the exit status."""
    arguments = parse_arguments(argv)
    from windlass.kube.server.main import run

    return run(lambda: _serve(arguments), "agent", arguments.log_level)


async def _serve(arguments: Arguments) -> int:
    from windlass.kube.agent.assembly import Agent
    from windlass.kube.server.main import until_signal

    return await until_signal(Agent(arguments))
