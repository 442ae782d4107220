"""``agentgw seal``: the keys that seal what passes through clients and what lies in the store."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import WrongUse, run

app = typer.Typer(
    help="The keys that seal what clients hold and secrets in the store.",
    invoke_without_command=True,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("rotate", short_help="Seal with a new key from now on.")
def rotate(
    keep: Annotated[
        str, typer.Option(metavar="DURATION", help="How long what the former key sealed can still be read.")
    ] = "7d",
    as_json: Json = False,
) -> None:
    """Seal with a new key from now on. What lies in the store is sealed anew at once; what clients hold (the
    state of a question, of a call that was handed over) can be read for as long as --keep says."""
    from ..gateway.durations import duration
    from . import sealing

    seconds = duration(keep)
    if seconds is None:
        raise WrongUse(f"--keep {keep} is no duration: write 7d, 12h or 30m")
    run(sealing.rotate(seconds, as_json))
