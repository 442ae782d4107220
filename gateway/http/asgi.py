"""ASGI at both sides of the front: what carries requests in it, and the control plane, which wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from .request import Request
from .wire import ClientGone, Headers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiWire:
    """Implements ``Wire`` over ASGI's ``receive`` and ``send``; ``client`` is the scope's: who asks."""

    def __init__(self, receive: Receive, send: Send, client: Sequence[Any] | None = None) -> None:
        self.peer = str(client[0]) if client else ""
        self._receive = receive
        self._send = send
        self._complete = False
        self._watch: asyncio.Task[None] | None = None
        self._on_gone: list[Callable[[], object]] = []
        self.gone = self.begun = False

    def whole(self) -> bytes | None:
        return b"" if self._complete else None

    async def read(self) -> bytes:
        while not self._complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            self._complete = not message.get("more_body")
            if piece := message.get("body", b""):
                return piece
        return b""

    def on_gone(self, callback: Callable[[], object]) -> None:
        if self.gone:
            asyncio.get_running_loop().call_soon(callback)
            return
        self._on_gone.append(callback)
        if self._watch is None:
            self._watch = asyncio.create_task(self._watching())

    async def _watching(self) -> None:
        while not self.gone:
            self.gone = (await self._receive())["type"] == "http.disconnect"
        self._leave()

    def last(self) -> None:
        """Connections are the server's."""

    def cut(self) -> None:
        if not self.gone:
            self.close()
            self.gone = True
            self._leave()

    def _leave(self) -> None:
        callbacks, self._on_gone = self._on_gone, []
        for callback in callbacks:
            callback()

    async def answer(self, status: int, base: Headers, more: Headers, body: bytes) -> None:
        await self.start(status, [*base, (b"content-length", str(len(body)).encode())], more)
        await self._send({"type": "http.response.body", "body": body})
        self.close()

    async def start(self, status: int, base: Headers, more: Headers) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*base, *more]})

    async def write(self, piece: bytes) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    def write_now(self, piece: bytes) -> bool:
        return False

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})
        self.close()

    def close(self) -> None:
        """Watch no longer."""
        if self._watch is not None:
            self._watch.cancel()


async def call(app: ASGI, request: Request) -> str:
    """Have an ASGI application answer. Its body is read here, for the limits of the front. What it says the
    request was about (``state["subject"]``), for the audit log."""
    path, _, query = request.target.partition(b"?")
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "scheme": "http", "method": request.method, "path": request.path,
        "raw_path": path, "query_string": query, "root_path": "", "headers": request.headers,
        "client": None, "server": None, "state": {"principal": request.principal},
    }  # fmt: skip
    body: bytes | None = await request.body()
    left = asyncio.Event()  # or has got its answer

    async def receive() -> MutableMapping[str, Any]:
        nonlocal body
        if body is not None:
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message
        request.on_gone(left.set)
        await left.wait()
        return {"type": "http.disconnect"}

    await app(scope, receive, _Answering(request, left.set))
    return scope["state"].get("subject", "")


class _Answering:
    """ASGI's ``send``; keeps browsers from guessing types. ``ended`` is called after a stream's last piece:
    who waits in ``receive`` beside it waits for no more."""

    def __init__(self, request: Request, ended: Callable[[], None]) -> None:
        self._request = request
        self._ended = ended
        self._begun: MutableMapping[str, Any] | None = None
        self._streams = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._begun = message
            return
        assert self._begun is not None
        body, more = bytes(message.get("body", b"")), message.get("more_body", False)
        status, headers = self._begun["status"], _guarded(self._begun.get("headers", ()))
        if not self._streams and not more:
            await self._request.raw(status, headers, body)
            return
        if not self._streams:
            self._streams = True
            await self._request.begin(status, headers)
        await self._request.wire.write(body)
        if not more:
            await self._request.wire.end()
            self._ended()


def _guarded(headers: Headers) -> Headers:
    kept = [(name.lower(), value) for name, value in headers]
    kept = [(name, value) for name, value in kept if name != b"content-length"]
    if not any(name == b"x-content-type-options" for name, _ in kept):
        kept.append((b"x-content-type-options", b"nosniff"))
    return kept
