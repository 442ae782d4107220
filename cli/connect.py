"""``agentgw connect``: the ready-made configuration of a client."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import run

CLIENTS = "cursor, vscode, claude-desktop, claude-code, windsurf, zed, inspector, acp, a2a"


def connect(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help=f"One of {CLIENTS}.", show_default=False)],
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="One agent instead of all.", show_default=False)
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write it into the client's file, beside what is there.")
    ] = False,
) -> None:
    """Print, or with --write put in place, what a client needs to reach this gateway."""
    from . import connecting

    run(connecting.connect(client, agent, write))
