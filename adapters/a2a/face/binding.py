"""What the two HTTP bindings share: which revision a request is in, and sending a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from ....gateway.errors import Draining, GatewayError
from ....gateway.http.request import ClientGone, EventStream, Request
from ..codec import Malformed
from ..problems import VERSION, Problem
from ..wire import Op, Version, version_of
from .call import Call, as_problem

HEARTBEAT = 15.0  # seconds of silence before a stream says that it is alive


def negotiated(request: Request, spoken: Version) -> Version:
    """The revision of a request whose method or path is ``spoken``'s. The header (or query parameter)
    ``A2A-Version`` must agree; without it the name decides. Raises Problem (-32009)."""
    text = request.header(b"a2a-version") or request.query.get("A2A-Version")
    if text and version_of(text) != spoken:
        words = f"A2A version {text[:20]!r} is not supported here"
        if version_of(text) is not None:
            words = f"this is an operation of A2A {spoken}, not {text}"
        raise Problem(VERSION, words)
    return spoken


class Writing(Protocol):
    """How a binding writes results and errors into a stream."""

    async def result(self, out: EventStream, result: bytes) -> None: ...

    async def failure(self, out: EventStream, problem: Problem) -> None: ...


async def stream(
    request: Request, call: Call, results: AsyncGenerator[bytes], closing: asyncio.Event, writing: Writing
) -> None:
    """Answer with the results as they come, until they end, the client leaves (ClientGone) or the gateway
    stops. What goes wrong before the answer's head is raised; later it is also written into the stream.

    The head waits for the first result, so that an error can still be one of HTTP, but no longer than
    ``HEARTBEAT``: from then on silence is broken by comments, lest a proxy takes the stream for dead."""
    if call.op is Op.SUBSCRIBE:
        request.listens()
    async with aclosing(results):
        first = asyncio.create_task(_next(results))
        try:
            await _headed(request, first, closing)
            async with await request.events(headers=call.answered) as out:
                try:
                    await _sent(first, results, out, closing, writing)
                except (GatewayError, Problem, Malformed) as e:
                    await writing.failure(out, as_problem(e, call.span.trace_id))
                    raise
                if out.gone.is_set():
                    raise ClientGone
        finally:
            await _ended(first)


async def _headed(request: Request, first: asyncio.Task[bytes | None], closing: asyncio.Event) -> None:
    """Return when the answer may begin. Raises ClientGone, Draining, and what ``first`` raises."""
    gone, stop = asyncio.create_task(request.disconnected()), asyncio.create_task(closing.wait())
    try:
        await asyncio.wait([first, gone, stop], timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            first.result()
        elif gone.done():
            raise ClientGone
        elif stop.done():
            raise Draining
    finally:
        await _ended(gone, stop)


async def _sent(
    first: asyncio.Task[bytes | None],
    results: AsyncGenerator[bytes],
    out: EventStream,
    closing: asyncio.Event,
    writing: Writing,
) -> None:
    """Write results until there are no more, or nobody is to get them."""
    now = asyncio.get_running_loop().time
    heard = now()

    async def pump() -> None:
        nonlocal heard
        result = await first
        while result is not None:
            await writing.result(out, result)
            heard = now()
            result = await anext(results, None)

    job = asyncio.create_task(pump())
    stops = [asyncio.create_task(out.gone.wait()), asyncio.create_task(closing.wait())]
    try:
        while not job.done() and not any(stop.done() for stop in stops):
            quiet = now() - heard
            if quiet >= HEARTBEAT:
                await out.comment()
                heard, quiet = now(), 0.0
            await asyncio.wait([job, *stops], timeout=HEARTBEAT - quiet, return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            job.result()
    finally:
        await _ended(job, *stops)


async def _next(results: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(results, None)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait until it is over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
