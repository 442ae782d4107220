"""The answer to one POST: plain JSON, unless something comes before the result; then an event stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from ....gateway.http.request import WATCHED_AFTER, ClientGone, EventStream, Request
from .outbox import KEEP_ALIVE
from .streams import Stream

PRIMED_AFTER = 1.0  # seconds of silence after which a client gets an id to come back with


class Outcome(msgspec.Struct, frozen=True):
    """A JSON-RPC answer and the HTTP status it has when it goes out as plain JSON."""

    message: bytes
    status: int = 200


class Reply:
    """Answers ``request``. ``send`` may be called from several tasks; after the client left it drops.
    ``lasts``: the answer is known to take long, so that the client is watched from the start."""

    def __init__(
        self, request: Request, headers: Sequence[tuple[bytes, bytes]] = (), *, lasts: bool = False
    ) -> None:
        self._lasts = lasts
        self._request = request
        self._headers = headers
        self._stream: EventStream | None = None
        self._closing = contextlib.AsyncExitStack()
        self._opening = asyncio.Lock()
        self._over = False

    async def send(self, message: bytes) -> bool:
        """Send a message before the result; whether anybody may have got it."""
        try:
            await (await self._open()).send(message, event="message")
        except ClientGone:
            return False
        return True

    async def _open(self) -> EventStream:
        async with self._opening:
            if self._over:
                raise ClientGone
            if self._stream is None:
                self._stream = await self._request.events(headers=self._headers)
                self._closing.push_async_exit(self._stream)
            return self._stream

    async def prime(self) -> None:
        """Answer with a stream that the client can come back to, where its era has such."""
        return

    async def hang_up(self, retry: float) -> None:
        """Let the client come back for the rest, in ``retry`` seconds, where its era can do that."""
        return

    async def run(self, work: asyncio.Task[Outcome]) -> bool:
        """Answer with the outcome of ``work``, which never fails. False when ``work`` still runs as the
        client left, or is to come back: the caller cancels it or lets it go on."""
        if not self._lasts and await _quick(work):
            await self.finish(work.result())
            return True
        gone = asyncio.create_task(self._request.disconnected())
        try:
            while not work.done():
                await asyncio.wait((work, gone), timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    break
                if gone.done():
                    self._leave()
                    return False
                await self._idle()
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            gone.cancel()
        await self.finish(work.result())
        return True

    async def finish(self, outcome: Outcome) -> None:
        """Send the result; nothing follows."""
        async with self._opening:
            self._over = True
        if self._stream is None:
            await self._request.respond(outcome.status, outcome.message, headers=self._headers)
            return
        with contextlib.suppress(ClientGone):
            await self._stream.send(outcome.message, event="message")
        await self._closing.aclose()

    async def _idle(self) -> None:
        with contextlib.suppress(ClientGone):
            await (await self._open()).comment()

    def _leave(self) -> None:
        self._over = True
        if self._stream is not None:
            self._stream.gone.set()


class ResumableReply(Reply):
    """For the handshake era: what became a stream can be taken up again. ``primes``: the client knows
    events without data (from 2025-11-25 on)."""

    def __init__(
        self, request: Request, headers: Sequence[tuple[bytes, bytes]], stream: Stream, *, primes: bool
    ) -> None:
        super().__init__(request, headers)
        self._events = stream
        self._primes = primes

    async def send(self, message: bytes) -> bool:
        self._events.append(message)
        await self._events.room()
        return self._events.reachable

    async def prime(self) -> None:
        if self._primes:
            self._events.want()

    async def hang_up(self, retry: float) -> None:
        if self._primes:
            self._events.hang_up(retry)

    async def run(self, work: asyncio.Task[Outcome]) -> bool:
        events = self._events
        if await _quick(work, events.begun()) and events.idle:
            await self.finish(work.result())
            return True
        gone = asyncio.create_task(self._request.disconnected())
        try:
            patience = PRIMED_AFTER if self._primes else KEEP_ALIVE
            await asyncio.wait(
                (work, gone, events.begun()), timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if work.done() and events.idle:
                await self.finish(work.result())
                return True
            if gone.done():
                events.leave()
                return False
            gone.cancel()
            await asyncio.wait((gone,))  # the stream watches from here on, and only one can
            work.add_done_callback(self._ended)
            await events.serve(self._request, self._headers, 0, prime=self._primes)
            return work.done()
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            gone.cancel()

    def _ended(self, work: asyncio.Task[Outcome]) -> None:
        if not work.cancelled():
            self._events.append(work.result().message)
        self._events.end()


async def _quick(work: asyncio.Task[Outcome], *others: asyncio.Future[None]) -> bool:
    """Whether ``work`` is done in the time of most calls, or before one of ``others``. Cancelled, it cancels
    ``work``."""
    try:
        await asyncio.wait((work, *others), timeout=WATCHED_AFTER, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        work.cancel()
        raise
    return work.done()
