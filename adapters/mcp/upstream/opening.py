"""How a link opens: which transport, which era.

A server is modern when it answers ``server/discover`` (basic/versioning, "Backward Compatibility"); anything
else but an outage or a refusal of credentials means the ``initialize`` handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

from ....gateway.errors import BadUpstream, Unreachable, UpstreamFailed, UpstreamTimeout
from ....gateway.model import Record
from ....gateway.ports import Host
from .. import wire
from ..wire import Caller, Era, RpcError
from .link import CLIENT_INFO, Expired, Hello, Link, log
from .oldsse import OldSseLink
from .stdio import StdioLink
from .streamable import HttpLink

HTTP_TIMEOUT = 15.0  # seconds for a link over HTTP to open
STDIO_TIMEOUT = 90.0  # a launcher may have to download the server first
DISCOVER_PATIENCE = 5.0  # seconds before a silent stdio server is greeted the old way as well
_PENDING: Hello = Hello(era="modern", version=wire.LATEST_MODERN)
_SHAKING: Hello = Hello(era="handshake", version="")


async def open_link(
    record: Record, host: Host, changed: Callable[[], None], caller: Caller, era: Era | None
) -> Link:
    """A link that is ready for requests. ``era``: what is known of the server. Raises UpstreamError, and
    ConfigError for unset references in the record."""
    opener = _open_stdio if record.command else _open_http
    limit = STDIO_TIMEOUT if record.command else HTTP_TIMEOUT
    try:
        async with asyncio.timeout(limit):
            return await opener(record, host, changed, caller, era)
    except TimeoutError:
        raise UpstreamTimeout(f"{record.name} did not answer the MCP handshake in time") from None


# --- HTTP ------------------------------------------------------------------------------------


async def _open_http(
    record: Record, host: Host, changed: Callable[[], None], caller: Caller, era: Era | None
) -> Link:
    if era != "handshake":
        link = HttpLink(record, host, _PENDING, changed)
        hello = await _discover_http(link)
        if hello is not None:
            link.hello = hello
            return link
    link = HttpLink(record, host, _SHAKING, changed)
    try:
        await _initialize(link, caller)
    except BadUpstream as e:
        # 2025-11-25, Streamable HTTP, "Backwards Compatibility": 400, 404 or 405 may be the old transport.
        if (e.native or {}).get("code") not in (400, 404, 405):
            raise
        return await _open_old(record, host, changed, caller, e)
    link.listen()
    return link


async def _discover_http(link: HttpLink) -> Hello | None:
    try:
        return _discovered(wire.fields(await link.request(wire.DISCOVER, {}, Caller())))
    except RpcError as e:
        _refuse_unless_handshake(link.agent, e)
    except Unreachable:
        raise
    except (BadUpstream, UpstreamFailed, ValueError, Expired) as e:
        log.debug("%s is not modern: %s", link.agent, e)
    return None


async def _open_old(
    record: Record, host: Host, changed: Callable[[], None], caller: Caller, first: BadUpstream
) -> Link:
    link = OldSseLink(record, host, _SHAKING, changed)
    try:
        await link.start()
    except BadUpstream:
        await link.aclose()
        raise first from None
    except BaseException:
        await link.aclose()
        raise
    try:
        await _initialize(link, caller)
    except BaseException:
        await link.aclose()
        raise
    return link


# --- stdio -----------------------------------------------------------------------------------


async def _open_stdio(
    record: Record, host: Host, changed: Callable[[], None], caller: Caller, era: Era | None
) -> Link:
    link = await StdioLink.start(record, host, _SHAKING if era == "handshake" else _PENDING, changed)
    try:
        if era == "handshake":
            await _initialize(link, caller)
        else:
            await _greet(link, caller)
        return link
    except UpstreamFailed:
        await link.aclose()
        if era == "handshake":
            raise
        # Some old servers end when a request comes before ``initialize``.
        return await _open_stdio(record, host, changed, caller, "handshake")
    except BaseException:
        await link.aclose()
        raise


async def _greet(link: StdioLink, caller: Caller) -> None:
    """Discover; a server that refuses, or stays silent, gets ``initialize`` on the same process. One that
    is merely slow to start may still answer the first: whichever comes first counts."""
    discover = asyncio.create_task(link.request(wire.DISCOVER, {}, Caller()))
    shake: asyncio.Task[None] | None = None
    try:
        await asyncio.wait([discover], timeout=DISCOVER_PATIENCE)
        if not discover.done():
            shake = asyncio.create_task(_initialize(link, caller))
            await asyncio.wait([discover, shake], return_when=asyncio.FIRST_COMPLETED)
        if discover.done():
            hello = await _discovered_stdio(link.agent, discover)
            if hello is not None:
                link.hello = hello
                return
        await (shake or _initialize(link, caller))
    finally:
        for task in (discover, shake):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
                _ = task.cancelled() or task.exception()  # the other one counts


async def _discovered_stdio(agent: str, discover: asyncio.Task[msgspec.Raw]) -> Hello | None:
    try:
        return _discovered(wire.fields(await discover))
    except RpcError as e:
        _refuse_unless_handshake(agent, e)
    except ValueError as e:
        log.debug("%s is not modern: %s", agent, e)
    return None


# --- both ------------------------------------------------------------------------------------


def _discovered(result: dict[str, Any]) -> Hello | None:
    """The server by its DiscoverResult; None if it names no modern revision that the gateway speaks."""
    supported = result.get("supportedVersions")
    mutual = [v for v in wire.MODERN_VERSIONS if isinstance(supported, list) and v in supported]
    if not mutual:
        return None
    info = _object(_object(result.get("_meta")).get(wire.META_SERVER_INFO))
    return Hello(
        era="modern",
        version=mutual[-1],
        server_info=info or _object(result.get("serverInfo")),
        capabilities=_object(result.get("capabilities")),
        instructions=_text(result.get("instructions")),
    )


def _refuse_unless_handshake(agent: str, error: RpcError) -> None:
    """A server that names the revisions it speaks, none of them ours, is not asked again."""
    supported = _object(error.data).get("supported")
    if error.code != wire.UNSUPPORTED_VERSION or not isinstance(supported, list):
        return
    versions = [str(v) for v in cast("list[Any]", supported)]
    if not any(v in wire.HANDSHAKE_VERSIONS for v in versions):
        raise BadUpstream(f"{agent} speaks no MCP revision that the gateway does: {', '.join(versions)}")


async def _initialize(link: Link, caller: Caller) -> None:
    """The handshake (2025-11-25, basic/lifecycle). The client's own capabilities go upstream."""
    offered = caller.protocol_version
    params = {
        "protocolVersion": offered if offered in wire.HANDSHAKE_VERSIONS else wire.LATEST_HANDSHAKE,
        "capabilities": caller.client_capabilities,
        "clientInfo": caller.client_info or CLIENT_INFO,
    }
    before, link.hello = link.hello, _SHAKING
    try:
        result = wire.fields(await link.request(wire.INITIALIZE, params, Caller()))
    except RpcError as e:
        link.hello = before
        native = {"protocol": "mcp", "code": e.code}
        raise BadUpstream(f"{link.agent} refused the MCP handshake", native=native, detail=e.message) from e
    except (ValueError, Expired) as e:
        raise BadUpstream(f"{link.agent} answered the MCP handshake with something else") from e
    version = result.get("protocolVersion")
    if version not in wire.HANDSHAKE_VERSIONS:
        raise BadUpstream(f"{link.agent} speaks no MCP revision that the gateway does: {str(version)[:100]}")
    link.hello = Hello(
        era="handshake",
        version=version,
        server_info=_object(result.get("serverInfo")),
        capabilities=_object(result.get("capabilities")),
        instructions=_text(result.get("instructions")),
    )
    try:
        await link.notify(wire.INITIALIZED)
    except Expired as e:
        raise BadUpstream(f"{link.agent} forgot the session that it had just begun") from e


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
