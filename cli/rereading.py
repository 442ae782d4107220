"""The work behind ``agentgw reload``: ask the running gateway, print what came of it."""

from __future__ import annotations

import msgspec

from ..gateway.reloading import Reloaded
from .client import Gateway
from .find import find, transport
from .reloading import summary
from .terminal import YELLOW, Stop, note, print_json


async def reload(as_json: bool) -> None:
    """Raises Stop where no gateway runs, GatewayError where the file is wrong."""
    async with transport() as http:
        target = await find(http)
        if target is None:
            raise Stop("no gateway is running: it reads its configuration when it starts")
        body = await Gateway(http, target).request("POST", "/reload", {})
    said = msgspec.json.decode(body, type=Reloaded)
    for warning in said.warnings:
        note(f"warning: {warning}", style=YELLOW)
    if as_json:
        print_json(said)
    else:
        print(summary(said))
