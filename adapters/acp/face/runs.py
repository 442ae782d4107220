"""Runs at the door: a run is a task, whatever protocol its agent speaks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

import msgspec

from ....gateway import sse
from ....gateway.errors import UnknownAgent
from ....gateway.followed import Following
from ....gateway.model import Invocation, Logged, Place
from ....gateway.ports import TaskHandle
from .. import codec
from ..encoding import RunEncoder, encoded
from ..ids import as_uuid, is_uuid
from ..losses import Unread, phrases
from ..run import run_json
from ..upstream.upstream import ACPUpstream
from ..wire import Json, Mode, RunCreate, RunCreateHead, RunResume
from . import relay
from .exchange import Exchange, Silence
from .passage import is_relayed

_encode = msgspec.json.Encoder().encode
_PART = sse.encode(b'{"type":"message.part","part":{"content_type":"text/plain","content":%b}}')
_CREATE_HEAD = msgspec.json.Decoder(RunCreateHead)
_CREATE = msgspec.json.Decoder(RunCreate)
_RESUME = msgspec.json.Decoder(RunResume)
_PIECE = 64 * 1024  # bytes of events that are written at once


async def create(x: Exchange) -> None:
    """POST /runs."""
    raw = x.request.at_hand() or await x.request.body()
    head = x.decoded(raw, _CREATE_HEAD)
    view = x.engine.agent(head.agent_name, x.principal)
    x.about(view)
    session = None
    if head.session_id is not None or head.session is not None:
        session = await chosen_session(x, head)
    if isinstance(view.upstream, ACPUpstream):
        named = view.upstream.named or await view.upstream.remote()
        await relay.create(x, view, view.upstream, named, head, raw, session)
        return
    body = x.decoded(raw, _CREATE)
    translated = codec.input_message(body.input)
    x.lost(translated.losses)
    mode = body.mode or "sync"
    metadata = body.metadata or {}
    skill = metadata.get("skill")
    idle, total = x.request.timeouts
    call = Invocation(
        agent=view.name,
        message=translated.value,
        skill=skill if isinstance(skill, str) else None,
        context_id=session,
        principal=x.principal,
        trace=x.span.trace,
        client_protocol="acp",
        streaming=mode != "sync",
        metadata=body.metadata,
        idle_timeout=idle,
        total_timeout=total,
    )
    handle = await x.engine.invoke(call)
    await _answer(x, handle, mode, after=0)


async def chosen_session(x: Exchange, head: RunCreateHead) -> str | None:
    """The conversation that the client names, by its id or a session object. History that it brings along is
    not fetched."""
    session = head.session
    if session is None:
        given = head.session_id
    else:
        given = session.id
        if head.session_id not in (None, given):
            raise codec.wrong("session_id", "it is not session.id")
        urls = [*session.history, *([session.state] if session.state is not None else ())]
        if not all(codec.absolute(url) for url in urls):
            raise codec.wrong("session", "expected whole URLs in history and state")
        if any(not url.startswith(f"{x.base}/resources/") for url in urls):
            x.lost(phrases((Unread.HISTORY,)))
    if given is not None and not is_uuid(given):
        raise codec.wrong("session_id" if session is None else "session.id", "expected a UUID")
    return await x.house.ids.original(given.lower()) if given else None


async def resume(x: Exchange, run_id: str) -> None:
    """POST /runs/{run_id}: the answer to what the run asks."""
    handle, upstream = await _find(x, run_id)
    if upstream is not None:
        await relay.resume(x, upstream, handle.task)
        return
    body = x.decoded(await x.request.body(), _RESUME)
    mode = body.mode or "sync"
    message = codec.said(body.await_resume.message, "await_resume.message")
    after, task = handle.last_seq, handle.task
    idle, total = x.request.timeouts
    call = Invocation(
        agent=task.agent,
        message=message,
        task_id=task.id,
        context_id=task.context_id,
        principal=x.principal,
        trace=x.span.trace,
        client_protocol="acp",
        streaming=mode != "sync",
        idle_timeout=idle,
        total_timeout=total,
    )
    handle = await x.engine.invoke(call)
    await _answer(x, handle, mode, after=after)


async def read(x: Exchange, run_id: str) -> None:
    """GET /runs/{run_id}."""
    handle, upstream = await _find(x, run_id)
    if upstream is not None:
        await relay.read(x, upstream, handle.task)
        return
    run = await current(handle, x)
    x.saw_task(handle.task)
    await x.run(200, run, run["run_id"])


async def events(x: Exchange, run_id: str) -> None:
    """GET /runs/{run_id}/events: what has happened so far."""
    handle, upstream = await _find(x, run_id)
    if upstream is not None:
        await relay.events(x, upstream, handle.task)
        return
    encoder = RunEncoder(handle.task, x.span.trace_id)
    log = await handle.log()
    seen = [encoder.created()]
    for logged in log:
        seen += encoder.feed(logged.event, logged.at)
    x.saw_task(handle.task)
    await x.request.json(200, {"events": seen})


async def cancel(x: Exchange, run_id: str) -> None:
    """POST /runs/{run_id}/cancel: 202; the run is ``cancelling`` until its agent has stopped."""
    handle, upstream = await _find(x, run_id)
    if upstream is not None:
        await relay.cancel(x, upstream, handle.task)
        return
    handle = await x.engine.cancel(handle.task.id, x.principal)
    run = await current(handle, x)
    x.saw_task(handle.task)
    await x.run(202, run, run["run_id"])


async def _find(x: Exchange, run_id: str) -> tuple[TaskHandle, ACPUpstream | None]:
    """The task that a run id names, and its agent's upstream where the run is the upstream's own."""
    handle = await x.engine.task(await x.house.ids.original(run_id), x.principal)
    await x.house.ids.give(handle.task.id, handle.task.context_id)
    try:
        view = x.engine.agent(handle.task.agent, x.principal)
    except UnknownAgent:  # a task outlives its agent's registration
        x.concerns(handle.task.agent)
        return handle, None
    x.about(view)
    if is_relayed(handle.task) and isinstance(view.upstream, ACPUpstream):
        return handle, view.upstream
    return handle, None


async def current(handle: TaskHandle, x: Exchange) -> Json:
    """The Run as it is now."""
    run = run_json(handle.task, await handle.log(), x.span.trace_id)
    x.lost(run.losses)
    return run.value


async def _answer(x: Exchange, handle: TaskHandle, mode: Mode, *, after: int) -> None:
    """Answer in the mode the client wants: at the end, at once, or as it happens (from ``after`` on)."""
    if mode == "stream":
        await _stream(x, handle, after)
        return
    if mode == "sync":
        await x.unless_gone(handle.settled())
    run = await current(handle, x)
    x.saw_task(handle.task)
    await x.run(200 if mode == "sync" else 202, run, run["run_id"])


async def _stream(x: Exchange, handle: TaskHandle, after: int) -> None:
    encoder = RunEncoder(handle.task, x.span.trace_id, apart=True)
    if after:  # what the run has said before stands in its output
        for logged in await handle.log():
            if logged.seq <= after:
                encoder.feed(logged.event, logged.at)
    async with x.streaming(as_uuid(handle.task.id)) as out:
        if not after:
            await out.send(msgspec.json.encode(encoder.created()))
        silence = Silence(out, x.house.timers)
        waiting, time = x.listening(silence.timed), x.house.timers.loop.time

        def now(logged: Logged) -> Sequence[bytes] | None:
            written = list(told(encoder, logged))
            if not out.write_now(written[0] if len(written) == 1 else b"".join(written)):
                return written
            silence.since = time()
            return None

        def more(text: str, place: Place) -> bool:
            pieces = encoder.growing(place)
            if pieces is None or not out.write_now(_part(text)):
                return False
            pieces.more(text)
            silence.since = time()
            return True

        following = Following(partial(told, encoder), now)
        async with contextlib.aclosing(handle.events(after, following.take, more)) as log:
            while True:
                with waiting:
                    logged = await anext(log, None)
                if logged is None:
                    break
                for piece in following.written(logged):
                    await out.write(piece)
    x.lost(encoder.losses)
    x.saw_task(handle.task)


def told(encoder: RunEncoder, logged: Logged) -> Iterable[bytes]:
    """The events that a logged one means, as they are written, in pieces of bounded size."""
    if (text := encoder.more(logged.event)) is not None:
        return (_part(text),)
    return _written(encoder.feed(logged.event, logged.at))


def _part(text: str) -> bytes:
    said = _encode(text)
    return _PART % (said if said.isascii() else sse.escaped(said))


def _written(events: Sequence[Json]) -> Iterator[bytes]:
    """The events in event-stream form, in pieces of bounded size unless one of a text is larger."""
    held: list[bytes] = []
    size = 0
    for event in events:
        for piece in chain((b"data: ",), encoded(event), (b"\n\n",)):
            held.append(piece)
            size += len(piece)
            if size > _PIECE:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)
