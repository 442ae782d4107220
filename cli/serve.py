"""``agentgw serve``: run the gateway."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import WrongUse

if TYPE_CHECKING:
    from ..gateway.config import Config


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default 127.0.0.1.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; default 8080; 0 takes a free one.", show_default=False),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for A2A over gRPC; default none.", show_default=False),
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="Configuration file (TOML).", show_default=False)
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="How clients reach it, when not by its own address.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=128, help="Processes that serve; default 1.", show_default=False),
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="Where state lives; for now only embedded.")
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Serve callers without a key beyond this machine.")
    ] = False,
) -> None:
    """Run the gateway.

    SIGTERM and Ctrl-C let running calls finish (at most limits.shutdown_grace), then stop it. A second one
    does not wait: exit status 1 when that cuts calls off.
    """
    if store is not None and store != "embedded":
        raise WrongUse("--store: only the embedded store is supported so far; leave it out")
    if public_url is not None and not public_url.startswith(("http://", "https://")):
        raise WrongUse("--public-url is a URL such as https://gateway.example")
    from . import process
    from .configuration import load, read, with_server
    from .owner import home

    given = partial(
        with_server,
        host=host,
        port=port,
        grpc_port=grpc_port,
        public_url=public_url,
        workers=workers,
        allow_anonymous=allow_anonymous,
    )

    def reread() -> tuple[Config, list[str]]:
        found, warnings = read(config)
        return given(found), warnings

    settings = given(load(config))
    serving = None
    if settings.server.workers > 1:
        from .workers import serving
    from ..gateway.errors import ConfigError, for_operator

    try:
        status = process.serve(settings, home=home(), serving=serving, reread=reread)
    except ConfigError as e:
        raise WrongUse(for_operator(e)) from e
    raise typer.Exit(status)
