"""The way out of an agent with OAuth: its token goes with every request to the agent's own origin.

An adapter notices nothing: it has a ``Host`` whose transport adds the header, and asks once more with another
token where the agent refused this one (HTTP 401: nothing was done).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ..gateway.config import Config
from ..gateway.model import Record
from ..gateway.ports import Host
from ..gateway.transport import Headers, Large, Reply, Stream, Transport
from .bearer import Bearer, Header


class Authorized:
    """Implements ``Transport`` and ``ports.Credentialed``. ``url``: the agent's, whose origin gets the
    token."""

    def __init__(self, transport: Transport, url: str, bearer: Bearer) -> None:
        parts = urlsplit(url)
        self._transport = transport
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._bearer = bearer

    def _ours(self, url: str, address: str | None) -> bool:
        """Whether a URL is of the agent's origin. One with an ``address`` came in a message."""
        end = len(self._origin)
        return address is None and url.startswith(self._origin) and url[end : end + 1] in ("", "/", "?", "#")

    async def credentials(self, refused: Header | None = None) -> Header | None:
        """See ``ports.Credentialed``."""
        if refused is not None:
            return await self._bearer.refused(refused)
        return self._bearer.now() or await self._bearer.get()

    def accepted(self) -> None:
        """See ``ports.Credentialed``."""
        self._bearer.doubts = 0

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        timeout: float | None = None,
        address: str | None = None,
        large: Large | None = None,
    ) -> Reply:
        send = partial(self._transport.request, method, url, body=body, timeout=timeout, large=large)
        if not self._ours(url, address):
            return await send(headers=headers, address=address)
        bearer = self._bearer
        token: Header | None = bearer.now() or await bearer.get()
        while True:
            reply = await send(headers=[*headers, token])
            if reply.status != 401:
                if bearer.doubts:
                    bearer.doubts = 0
                return reply
            token = await bearer.refused(token)
            if token is None:
                return reply

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        if not self._ours(url, address):
            return self._transport.stream(method, url, headers=headers, body=body, address=address)
        return _Open(self._transport, self._bearer, method, url, headers, body)

    async def aclose(self) -> None:
        """The connections are everybody's."""


class _Open(AbstractAsyncContextManager[Stream]):
    """The block of ``Authorized.stream``."""

    def __init__(
        self,
        transport: Transport,
        bearer: Bearer,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
    ) -> None:
        self._transport = transport
        self._bearer = bearer
        self._request = method, url
        self._headers = headers
        self._body = body
        self._block: AbstractAsyncContextManager[Stream] | None = None

    async def _begin(self, token: Header) -> Stream:
        block = self._transport.stream(*self._request, headers=[*self._headers, token], body=self._body)
        answer = await block.__aenter__()
        self._block = block
        return answer

    async def _end(self, *how: Any) -> None:
        block, self._block = self._block, None
        if block is not None:
            await block.__aexit__(*how)

    async def __aenter__(self) -> Stream:
        bearer = self._bearer
        token: Header | None = bearer.now() or await bearer.get()
        while True:
            answer = await self._begin(token)
            if answer.status != 401:
                if bearer.doubts:
                    bearer.doubts = 0
                return answer
            try:
                token = await bearer.refused(token)
            except BaseException:
                await self._end(None, None, None)
                raise
            if token is None:
                return answer
            await self._end(None, None, None)

    async def __aexit__(self, *how: Any) -> None:
        await self._end(*how)


class AuthorizedHost:
    """A host as it is, but for its transport."""

    def __init__(self, host: Host, transport: Authorized) -> None:
        self.transport: Transport = transport
        self.tracer = host.tracer
        self._host = host
        self.breaker = host.breaker
        self.children = host.children
        self.headers = host.headers
        self.environment = host.environment
        self.hidden = host.hidden
        self.changed = host.changed

    @property
    def config(self) -> Config:
        return self._host.config


def authorized(host: Host, record: Record, bearer: Bearer | None) -> Host:
    """The host for a record's upstream. ``bearer`` None: it is the host itself."""
    if bearer is None or record.url is None:
        return host
    return AuthorizedHost(host, Authorized(host.transport, record.url, bearer))
