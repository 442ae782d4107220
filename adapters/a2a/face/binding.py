"""What the two HTTP bindings share: which revision a request is in, and sending a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Protocol

from ....gateway.errors import GatewayError
from ....gateway.http.request import ClientGone, EventStream, Request
from ..problems import VERSION, Problem, problem_of
from ..wire import Version, version_of
from .call import Call


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
    stops. What goes wrong before the first one is raised; later it is also written into the stream."""
    async with aclosing(results):
        first = await anext(results, None)
        async with await request.events() as out:
            try:
                if first is not None:
                    await writing.result(out, first)
                async with aclosing(_until(results, out.gone, closing)) as rest:
                    async for result in rest:
                        await writing.result(out, result)
            except GatewayError as e:
                await writing.failure(out, problem_of(e, call.span.trace_id))
                raise
            if out.gone.is_set():
                raise ClientGone


async def _until(results: AsyncIterator[bytes], *stops: asyncio.Event) -> AsyncGenerator[bytes]:
    """The results until one of the events is set, even while none comes."""
    waits = [asyncio.create_task(stop.wait()) for stop in stops]
    step: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            step = asyncio.create_task(_step(results))
            await asyncio.wait([step, *waits], return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                return
            result = step.result()
            if result is None:
                return
            yield result
    finally:
        for wait in waits:
            wait.cancel()
        if step is not None and not step.done():
            step.cancel()
            await asyncio.wait([step])


async def _step(results: AsyncIterator[bytes]) -> bytes | None:
    return await anext(results, None)
