"""``agentgw traces``: the last calls, and one call as a tree of hops."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import run

app = typer.Typer(help="The last calls; one call as a tree of hops.", invoke_without_command=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def root(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many calls.")] = 20,
    as_json: Json = False,
) -> None:
    """The last calls, newest first. With show ID: one call as a tree of hops with times."""
    if context.invoked_subcommand is None:
        from . import tracing

        run(tracing.recent(limit, as_json))


@app.command("show", short_help="One call as a tree of hops with times.")
def show(
    trace_id: Annotated[
        str, typer.Argument(metavar="ID", help="A trace id, or its first digits.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """One call as a tree of hops with times."""
    from . import tracing

    run(tracing.one(trace_id, as_json))
