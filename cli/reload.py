"""``agentgw reload``: have the running gateway read its configuration again."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import run


def reload(
    json: Annotated[bool, typer.Option("--json", help="Print what changed as JSON.")] = False,
) -> None:
    """Have the running gateway read its configuration file again.

    Agents, limits, outbound, audit, public_url, hosts, origins, and what is kept of traces change at once,
    calls under way go on; what needs a restart is named. A file that is wrong changes nothing. SIGHUP does
    the same.
    """
    from .rereading import reload

    run(reload(json))
