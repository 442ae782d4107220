"""``agentgw doctor``: what is wrong, and the fix."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import run


def doctor(
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The configuration file that serve gets.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what is wrong with this installation, a line for each thing, and what to do about it.

    It looks at the configuration, the data directory, the running gateway and who can call it, the agents,
    optional parts, the clock and certificates. Nothing is changed, and no agent is called. Exit status 1
    when something is wrong.
    """
    from . import examining

    raise typer.Exit(run(examining.examine(config, as_json)))
