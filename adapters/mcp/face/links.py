"""Addresses that a user has to open before a call is made again: an error of handshake servers (2025-11-25,
client/elicitation: URL Elicitation Required Error), a question to modern clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .. import wire
from ..upstream import questions
from ..wire import RpcError, objects
from . import elicitation, eras
from .exchange import Exchange


def asked(exchange: Exchange, error: RpcError) -> dict[str, Any]:
    """The InputRequiredResult in place of ``error``; the call that follows is made like the first. Raises
    ``error`` if it is another, if the client can't be asked, or has just refused."""
    found = questions.links(error)
    params = {key: elicitation.asked(link, exchange.client_capabilities) for key, link in found.items()}
    if not params or None in params.values() or _refused(exchange.arguments().get("inputResponses")):
        raise error
    requests = {
        key: {"method": wire.ELICIT, "params": eras.question(link or {}, exchange.era)}
        for key, link in params.items()
    }
    return {"resultType": "input_required", "inputRequests": requests}


def _refused(responses: Any) -> bool:
    if not isinstance(responses, Mapping):
        return False
    said = objects([*cast("Mapping[str, Any]", responses).values()])
    return not all(response.get("action") == "accept" for response in said)
