"""The way out of an agent with OAuth: its token goes with every request to the agent's own origin.

An adapter notices nothing: it has a ``Host`` whose transport adds the header, and asks once more with another
token where the agent refused this one (HTTP 401: nothing was done).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from urllib.parse import urlsplit

from ..gateway.config import Config
from ..gateway.model import Record
from ..gateway.ports import Host
from ..gateway.transport import Block, Headers, Reply, Stream, Transport
from ..gateway.waiting import Timer
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
    ) -> Reply:
        send = partial(self._transport.request, method, url, body=body, timeout=timeout)
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
        patience: Timer | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        return Block(self.opened(method, url, headers=headers, body=body, address=address, patience=patience))

    async def opened(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | None = None,
        address: str | None = None,
        patience: Timer | None = None,
    ) -> Stream:
        send = partial(self._transport.opened, method, url, body=body, patience=patience)
        if not self._ours(url, address):
            return await send(headers=headers, address=address)
        bearer = self._bearer
        token: Header | None = bearer.now() or await bearer.get()
        while True:
            answer = await send(headers=[*headers, token])
            if answer.status != 401:
                if bearer.doubts:
                    bearer.doubts = 0
                return answer
            try:
                token = await bearer.refused(token)
            except BaseException:
                answer.close()
                raise
            if token is None:
                return answer
            answer.close()

    async def aclose(self) -> None:
        """The connections are everybody's."""


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
