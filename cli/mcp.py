"""``agentgw mcp``: a stdio MCP server for hosts that only launch commands."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import run


def mcp(
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="One agent, its tools under their own names.")
    ] = None,
) -> None:
    """Speak MCP on standard input and output.

    Relays to the running gateway; where none is up, a gateway runs inside this process, with tasks and
    traces in memory.
    """
    from . import stdio

    run(stdio.serve(agent))
