"""Does a URL speak ACP?"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ....gateway.errors import BadUpstream, GatewayError
from ....gateway.ports import Found, Host
from ....gateway.readable import UNREADABLE
from ....gateway.transport import Reply
from .. import manifests
from ..wire import JSON_TYPE, PAGE, Json
from .server import split_url

TIMEOUT = 10.0  # seconds for one request


async def probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
    """The agents at ``url``: the base of an ACP server, or ``…/agents/{name}``, which names one of them.

    None where it is no ACP server. Raises BadUpstream where it is one and wants credentials.
    """
    base, named = split_url(url)
    there = f"{base}/agents?limit={PAGE}&offset=0" if named is None else url.rstrip("/")
    first = await _get(host, there, headers)
    if first is None:
        return None
    if first.status in (401, 403):
        ping = await _get(host, f"{base}/ping", headers)
        if ping is not None and ping.status == 200 and _decoded(ping) == {}:
            refused = f"it speaks ACP but refuses access (HTTP {first.status})"
            raise BadUpstream(refused, native={"protocol": "acp", "status": first.status})
        return None
    body = _decoded(first) if first.status == 200 else None
    if named is not None:
        found = (manifests.agent(body),) if manifests.is_manifest(body) else ()
        return Found(url=there, agents=found) if found else None
    raw: Any = cast(Json, body).get("agents") if isinstance(body, dict) else None
    if not isinstance(raw, list) or not all(manifests.is_manifest(m) for m in cast(list[Any], raw)):
        return None
    if not raw and not await _pings(host, base, headers):
        return None
    return Found(url=base, agents=tuple(manifests.agent(m) for m in cast(list[Any], raw)))


async def _pings(host: Host, base: str, headers: list[tuple[str, str]]) -> bool:
    """Whether GET /ping answers: an empty list of agents alone proves nothing."""
    reply = await _get(host, f"{base}/ping", headers)
    return reply is not None and reply.status == 200 and isinstance(_decoded(reply), dict)


async def _get(host: Host, url: str, headers: list[tuple[str, str]]) -> Reply | None:
    try:
        own = [("accept", JSON_TYPE), *headers]
        return await host.transport.request("GET", url, headers=own, timeout=TIMEOUT)
    except GatewayError:
        return None


def _decoded(reply: Reply) -> Any:
    try:
        return msgspec.json.decode(reply.body)
    except UNREADABLE:
        return None
