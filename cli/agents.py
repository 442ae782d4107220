"""``agentgw agents``: register, look, probe, change."""

from __future__ import annotations

from typing import Annotated

import typer

# A command's own import of TyperCommand: the class is public under typer.core.
from typer.core import TyperCommand

from .terminal import run

app = typer.Typer(help="Register agents, look at them, probe and change them.", invoke_without_command=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.", show_default=False)]

_COMMAND = "agentgw.command"


class _WithCommand(TyperCommand):
    """Keeps everything after ``--`` as it is: it is another program's command line."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_COMMAND] = args[cut + 1 :]
            args = args[:cut]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return ["[OPTIONS]", "NAME", "(URL | -- COMMAND ARG…)"]


@app.callback()
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(
    "add",
    cls=_WithCommand,
    short_help="Register an agent: a URL, or a command to start.",
)
def add(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The agent's name (with --all: the URL).", show_default=False),
    ],
    url: Annotated[str | None, typer.Argument(metavar="URL", help="Where it is.", show_default=False)] = None,
    protocol: Annotated[
        str, typer.Option(help="mcp, a2a, acp, …; auto probes the URL; a command is an MCP server.")
    ] = "auto",
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="'Name: value', sent with every request; the value may hold references (see below)."
        ),
    ] = None,
    remote: Annotated[
        str | None, typer.Option(metavar="AGENT", help="Which of several agents behind the URL.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every agent behind the URL, each under its own name.")
    ] = False,
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="The command's environment; may hold references.")
    ] = None,
    cwd: Annotated[
        str | None, typer.Option(metavar="DIR", help="The command's directory; default: the current one.")
    ] = None,
    oauth_token_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Get a token with client credentials there, and renew it."),
    ] = None,
    oauth_client_id: Annotated[str, typer.Option(metavar="ID", help="Who the gateway is there.")] = "",
    oauth_client_secret: Annotated[
        str, typer.Option(metavar="REF", help="Its secret: a reference such as '${CLIENT_SECRET}'.")
    ] = "",
    oauth_scope: Annotated[str, typer.Option(metavar="SCOPE", help="What the token is to allow.")] = "",
    oauth_audience: Annotated[str, typer.Option(metavar="NAME", help="Where the server wants one.")] = "",
    oauth_resource: Annotated[str, typer.Option(metavar="URI", help="Where the server wants one.")] = "",
    oauth_post: Annotated[
        bool, typer.Option("--oauth-post", help="Send id and secret in the body, not as HTTP Basic.")
    ] = False,
    description: Annotated[str | None, typer.Option(help="Your own words, in place of the agent's.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of an existing name.")] = False,
    as_json: Json = False,
) -> None:
    """Register an agent: a URL, or after -- a command to start (a stdio agent).

    agentgw agents add research https://research.example/a2a

    agentgw agents add analyst -- python analyst_server.py

    Secrets are references, read only when used: ${NAME} is a variable of the gateway's environment,
    ${file:/path} what a file holds (read again when it changes), ${keyring:service/user} an entry of the
    system's keyring (pip install 'agentgw[keyring]').
    """
    from . import registering

    command = context.meta.get(_COMMAND)
    spec = registering.spec(
        name, url, command=command, protocol=protocol, headers=header or [], remote=remote, every=every,
        env=env or [], cwd=cwd, description=description, replace=replace,
        oauth=registering.oauth(
            oauth_token_url, oauth_client_id, oauth_client_secret,
            scope=oauth_scope, audience=oauth_audience, resource=oauth_resource, post=oauth_post,
        ),
    )  # fmt: skip
    run(registering.add(spec, as_json))


@app.command("list", short_help="All agents, their protocols and health.")
def list_(as_json: Json = False) -> None:
    """All registered agents, disabled ones too."""
    from . import registering

    run(registering.list_agents(as_json))


@app.command("show", short_help="One agent: where it is, its health, what it can do.")
def show(name: Name, as_json: Json = False) -> None:
    """One agent: where it is, its health, what it can do."""
    from . import registering

    run(registering.show(name, as_json))


@app.command("check", short_help="Probe one agent, or all.")
def check(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The agent's name; without it, all.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Speak each agent's protocol to it now. Exit status 1 when one is not well."""
    from . import registering

    raise typer.Exit(run(registering.check(name, as_json)))


@app.command("enable", short_help="Make a disabled agent reachable again.")
def enable(name: Name, as_json: Json = False) -> None:
    """Make a disabled agent reachable again."""
    from . import registering

    run(registering.set_enabled(name, True, as_json))


@app.command("disable", short_help="Make an agent unknown at every door; it stays registered.")
def disable(name: Name, as_json: Json = False) -> None:
    """Make an agent unknown at every door; it stays registered."""
    from . import registering

    run(registering.set_enabled(name, False, as_json))


@app.command("login", short_help="Log in to an agent that wants OAuth, with your browser.")
def login(
    name: Name,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the URL to open, instead of opening it.")
    ] = False,
    client_id: Annotated[
        str,
        typer.Option(metavar="ID", help="Who the gateway is there; default: it registers itself."),
    ] = "",
    client_secret: Annotated[
        str, typer.Option(metavar="REF", help="Its secret, if it has one: a reference such as '${SECRET}'.")
    ] = "",
    scope: Annotated[
        str, typer.Option(metavar="SCOPE", help="What to ask for; default: what the agent names.")
    ] = "",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Where the browser comes back to; 0: any.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Log in to an agent that wants OAuth (a hosted MCP server), with your browser on this machine. The
    tokens are sealed in the store and renewed; agentgw agents logout NAME forgets them."""
    from . import login as work

    status = run(
        work.login(
            name, browser=not no_browser, client_id=client_id, client_secret=client_secret, scope=scope,
            port=port, as_json=as_json,
        )
    )  # fmt: skip
    raise typer.Exit(status)


@app.command("logout", short_help="Forget the tokens of a login.")
def logout(name: Name, as_json: Json = False) -> None:
    """Forget the tokens of a login, here and at the authorization server."""
    from . import login as work

    run(work.logout(name, as_json))


@app.command("logs", short_help="What a stdio agent wrote on stderr.")
def logs(
    name: Name,
    lines: Annotated[int, typer.Option(min=1, max=1000, help="How many, the last ones.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    as_json: Json = False,
) -> None:
    """What an agent that is a command wrote on stderr, and when it was started and ended. Secrets of its
    environment are ***."""
    from . import registering

    run(registering.logs(name, lines, follow, as_json))


@app.command("remove", short_help="Forget an agent.")
def remove(name: Name, as_json: Json = False) -> None:
    """Forget an agent."""
    from . import registering

    run(registering.remove(name, as_json))
