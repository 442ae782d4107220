"""The transport of 2024-11-05, HTTP+SSE: one GET stream for all that the server says, POSTs to the URL that
its first event names. Deprecated, still met."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from ....gateway import sse
from ....gateway.errors import BadUpstream, GatewayError, UpstreamError, UpstreamFailed
from ....gateway.model import Record
from ....gateway.ports import Host
from ....gateway.transport import Stream
from .. import wire
from .duplex import DuplexLink
from .link import Hello, log


class OldSseLink(DuplexLink):
    """Open until the stream ends; ``start`` returns once the server has named its endpoint."""

    def __init__(self, record: Record, host: Host, hello: Hello, changed: Callable[[], None]) -> None:
        super().__init__(record.name, hello, changed)
        self._record = record
        self._host = host
        self._endpoint: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def most(self) -> int:
        return self._host.config.limits.per_agent

    async def start(self) -> None:
        """Raises UpstreamError when there is no such stream at the URL."""
        self.spawn(self._stream())
        await asyncio.shield(self._endpoint)

    async def _stream(self) -> None:
        url = self._record.url or ""
        headers = [*self._host.headers(self._record), ("accept", wire.SSE_TYPE)]
        error: UpstreamError = UpstreamFailed(self.agent, detail="the event stream ended")
        try:
            async with self._host.transport.stream("GET", url, headers=headers) as reply:
                if reply.status != 200 or not (reply.header("content-type") or "").startswith(wire.SSE_TYPE):
                    raise BadUpstream(f"{self.agent} does not speak MCP at this URL")
                await self._read(reply, url)
        except UpstreamError as e:
            error = e
        except ValueError as e:
            error = BadUpstream(f"{self.agent} sent an event that is too large", detail=str(e))
        except GatewayError as e:
            error = BadUpstream(e.message, detail=e.detail)
        if not self._endpoint.done():
            self._endpoint.set_exception(error)
        self.lost(error)

    async def _read(self, reply: Stream, url: str) -> None:
        decoder = sse.Decoder(self._host.config.limits.body)
        async for chunk in reply.chunks():
            for event in decoder.feed(chunk):
                if event.event == "endpoint" and not self._endpoint.done():
                    self._endpoint.set_result(self._checked(url, event.data.decode("utf-8", "replace")))
                elif event.event == "message":
                    await self.feed(event.data)

    def _checked(self, url: str, reference: str) -> str:
        """The endpoint's URL: it gets the record's credentials, so it must be of the same origin."""
        endpoint = urljoin(url, reference.strip())
        here, there = urlsplit(url), urlsplit(endpoint)
        if (here.scheme, here.netloc) != (there.scheme, there.netloc):
            raise BadUpstream(f"{self.agent} names an endpoint at another origin", detail=endpoint)
        return endpoint

    async def send(self, message: bytes) -> None:
        headers = [*self._host.headers(self._record), ("content-type", wire.JSON_TYPE)]
        reply = await self._host.transport.request(
            "POST", self._endpoint.result(), headers=headers, body=message
        )
        if reply.status >= 300:
            log.debug("%s: HTTP %s: %r", self.agent, reply.status, reply.body[:500])
            native = {"protocol": "http", "code": reply.status}
            raise BadUpstream(f"{self.agent} answered with HTTP {reply.status}", native=native)
