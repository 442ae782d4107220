"""``agentgw call``: call any agent from the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import run


def call(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.", show_default=False)],
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="What to say; - or nothing reads standard input.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="Structured input.", show_default=False)
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Send a file along; may be repeated.")
    ] = None,
    skill: Annotated[str | None, typer.Option(metavar="ID", help="One of the agent's skills.")] = None,
    context: Annotated[str | None, typer.Option(metavar="ID", help="Go on with a conversation.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="ID", help="Answer a task that waits for input.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="DIR", help="Save the answer's files there.", show_default=False)
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The call's time in all, e.g. 30s or 5m.", show_default=False),
    ] = None,
    idle_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Time without a sign of life of the agent.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document at the end.")] = False,
) -> None:
    """Call an agent. The answer streams to standard output as it comes.

    When the agent asks something, you are asked at the terminal. Ctrl-C cancels the task. Exit status: 0
    completed, 1 failed, 2 wrong use, 3 the agent waits for input. Timeouts lower what the agent is allowed
    by the configuration; they never raise it.
    """
    from . import calling, content

    parts = content.parts(text, data, file or [])
    request = calling.Request(parts=parts, skill=skill, context_id=context, task_id=task)
    limits = calling.limits(total=timeout, idle=idle_timeout)
    raise typer.Exit(run(calling.call(name, request, limits=limits, as_json=as_json, output=output)))
