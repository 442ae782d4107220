"""The ``agentgw`` command: what it offers, and how errors end.

Command modules hold only signatures and import what they need when they run, so that ``--help`` stays
quick (a test watches which modules it loads).
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from . import agents, call, connect, doctor, keys, mcp, reload, seal, serve, traces
from .terminal import RED, Stop, one_line, paint

app = typer.Typer(
    name="agentgw",
    help="The gateway through which any client reaches any agent: MCP, A2A and ACP.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"agentgw {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The gateway through which any client reaches any agent: MCP, A2A and ACP."""
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("serve")(serve.serve)
app.add_typer(agents.app, name="agents")
app.add_typer(keys.app, name="keys")
app.command("reload", short_help="Have the running gateway read its configuration again.")(reload.reload)
app.command("call")(call.call)
app.command("connect", short_help="What a client needs to reach this gateway; --write puts it in place.")(
    connect.connect
)
app.command("mcp")(mcp.mcp)
app.add_typer(traces.app, name="traces")
app.add_typer(seal.app, name="seal")
app.command("doctor", short_help="What is wrong, and the fix.")(doctor.doctor)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit status. Every error is one line on stderr, never a traceback."""
    try:
        status: object = app(arguments, prog_name="agentgw", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        # The reader of our output left (``| head``): nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        return _report(e)


def _report(error: Exception) -> int:
    message, status = _explained(error)
    prefix = paint("agentgw:", RED, sys.stderr)
    print(f"{prefix} {one_line(message)}", file=sys.stderr)
    if os.environ.get("AGENTGW_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return status


def _explained(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit status."""
    if isinstance(error, Stop):
        return error.message, error.status
    if hasattr(error, "format_message"):  # the option parser's own errors, whichever package they are in
        message = str(error.format_message())  # pyright: ignore
        context = getattr(error, "ctx", None)
        path = getattr(context, "command_path", "agentgw")
        return f"{message.rstrip('.')} (see: {path} --help)", getattr(error, "exit_code", 2)
    from ..gateway.errors import GatewayError, for_operator

    if isinstance(error, GatewayError):
        return for_operator(error), 1
    first = (str(error).splitlines() or [""])[0]
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"unexpected error: {what} (run it again with AGENTGW_DEBUG=1 to see where)", 1
