"""Reading what a server offers into a ``Catalog``."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ....gateway.errors import BadUpstream, GatewayError, UpstreamFailed
from .. import headers, wire
from ..wire import Caller, Catalog, RpcError
from .link import Expired, Link, log

MAX_PAGES = 1000
MAX_LIST = 64 * 1024 * 1024  # bytes of all pages of a list
WEDGED = 5.0  # seconds after which a process that says nothing to a ping is taken for dead
_sorted = msgspec.json.Encoder(order="deterministic")


async def read_catalog(link: Link, caller: Caller) -> Catalog:
    """All pages of all lists. Tools must be readable if the server declares them; what else it fails to
    list is empty. Raises UpstreamError, Expired."""
    hello = link.hello
    declared = hello.capabilities
    tools, prompts, resources, templates = await asyncio.gather(
        _list(link, caller, wire.TOOLS_LIST, "tools", needed="tools" in declared),
        _list(link, caller, wire.PROMPTS_LIST, "prompts", wanted="prompts" in declared),
        _list(link, caller, wire.RESOURCES_LIST, "resources", wanted="resources" in declared),
        _list(link, caller, wire.TEMPLATES_LIST, "resourceTemplates", wanted="resources" in declared),
    )
    return Catalog(
        protocol_version=hello.version,
        era=hello.era,
        server_info=hello.server_info,
        capabilities=declared,
        instructions=hello.instructions,
        tools=_usable(link, tools),
        prompts=prompts,
        resources=resources,
        resource_templates=templates,
    )


def same(one: Catalog, other: Catalog) -> bool:
    """Whether both say the same, in whatever order of members."""
    return one == other and _sorted.encode(one) == _sorted.encode(other)  # True is no 1 on the wire


async def _list(
    link: Link, caller: Caller, method: str, key: str, *, needed: bool = False, wanted: bool = True
) -> tuple[dict[str, Any], ...]:
    if not wanted:
        return ()
    items: list[dict[str, Any]] = []
    params: dict[str, Any] = {}
    seen: set[str] = set()
    size = 0
    try:
        for _ in range(MAX_PAGES):
            raw = await link.request(method, params, caller)
            if (size := size + len(raw)) > MAX_LIST:
                raise BadUpstream(f"{link.agent} answers {method} without end")
            page = wire.fields(raw)
            items += wire.objects(page.get(key))
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or cursor in seen:
                break
            seen.add(cursor)
            params = {"cursor": cursor}
    except RpcError as e:
        if not needed:
            log.debug("%s: %s: %s", link.agent, method, e.message)
            return tuple(items)
        native = {"protocol": "mcp", "code": e.code}
        raise UpstreamFailed(link.agent, native=native, detail=e.message) from e
    except ValueError as e:
        raise BadUpstream(f"{link.agent} answered {method} with something else", detail=str(e)) from e
    return tuple(items)


def _usable(link: Link, tools: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Without tools that have no name; over modern HTTP also without those whose header annotations are
    invalid (2026-07-28, Streamable HTTP, "Schema Extension": a client must leave them out)."""
    named = tuple(tool for tool in tools if isinstance(tool.get("name"), str))
    if link.hello.era != "modern" or link.transport != "tcp":
        return named
    kept: list[dict[str, Any]] = []
    for tool in named:
        fault = headers.fault(tool.get("inputSchema"))
        if fault is None:
            kept.append(tool)
        else:
            log.warning("%s: tool %s is left out: %s", link.agent, tool["name"], fault)
    return tuple(kept)


async def answers(link: Link) -> bool:
    """Whether a server answers anything at all within ``WEDGED`` seconds."""
    method = wire.PING if link.hello.era == "handshake" else wire.DISCOVER
    try:
        async with asyncio.timeout(WEDGED):
            await link.request(method, {}, Caller())
    except TimeoutError:
        return False
    except (RpcError, GatewayError) as e:
        log.debug("%s: %s: %r", link.agent, method, e)
    return True


async def rediscover(link: Link) -> bool:
    """Whether a modern server still answers ``server/discover``: its era may have changed under us."""
    try:
        await link.request(wire.DISCOVER, {}, Caller())
    except (RpcError, BadUpstream, Expired) as e:
        log.debug("%s: no longer modern: %s", link.agent, e)
        return False
    return True


async def subscribe(link: Link) -> None:
    """Hear of changed lists from a modern server until it ends the stream (basic/patterns/subscriptions).
    The link itself tells the hub."""
    kinds = ("tools", "prompts", "resources")
    declared = link.hello.capabilities
    wanted = {
        f"{kind}ListChanged": True
        for kind in kinds
        if isinstance(declared.get(kind), dict) and declared[kind].get("listChanged") is True
    }
    if not wanted:
        return
    try:
        await link.request(wire.SUBSCRIPTIONS_LISTEN, {"notifications": wanted}, Caller())
    except (RpcError, Expired) as e:
        log.debug("%s offers no subscriptions: %s", link.agent, e)
