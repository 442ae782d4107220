"""``agentgw keys``: who may come in, and to which agents."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import run

app = typer.Typer(
    help="Client keys: who may come in, and to which agents. With the first one, every caller needs one.",
    invoke_without_command=True,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name.", show_default=False)]


@app.callback()
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("create", short_help="Make a key; its secret is shown this once.")
def create(
    name: Name,
    agents: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B", help="The agents that it reaches; default all. Commas, or say it again for more."
        ),
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="It may use the admin API, the metrics and the console.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="30d, 12h, … from now, or an ISO 8601 time; default never."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Requests that it may make: 20/s, 600/m, …, or 0 for any number; default limits.rate.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key; its secret is shown this once, and kept only as a hash.

    agentgw keys create ci --agents research,analyst --expires 30d --rate 20/s
    """
    from . import keeping

    run(keeping.create(keeping.spec(name, agents, admin=admin, expires=expires, rate=rate), as_json))


@app.command("list", short_help="All keys, expired and revoked ones too.")
def list_(as_json: Json = False) -> None:
    """All keys, expired and revoked ones too; without their secrets, which nobody keeps."""
    from . import keeping

    run(keeping.list_keys(as_json))


@app.command("revoke", short_help="Have a key let nobody in any more.")
def revoke(name: Name, as_json: Json = False) -> None:
    """Have a key let nobody in any more; what it has open ends. It stays in the list."""
    from . import keeping

    run(keeping.revoke(name, as_json))


@app.command("remove", short_help="Revoke a key and forget it.")
def remove(name: Name, as_json: Json = False) -> None:
    """Revoke a key and forget it. With the last one, a gateway on 127.0.0.1 lets everybody in again."""
    from . import keeping

    run(keeping.remove(name, as_json))
