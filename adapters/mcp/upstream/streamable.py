"""Streamable HTTP, both eras: every message of ours is a POST of its own; its answer is JSON or a stream.

Modern: stateless, headers mirror the body, closing the response cancels. Handshake: a session
(``Mcp-Session-Id``), questions of the server on the same stream, a GET stream for what belongs to no call,
and streams that the server may end early to be taken up again with ``Last-Event-ID``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import msgspec

from ....gateway import sse
from ....gateway.errors import BadUpstream, GatewayError, NeedsAuth, Unreachable, UpstreamFailed
from ....gateway.h1_request import Fixed
from ....gateway.model import Record
from ....gateway.ports import Host
from ....gateway.telemetry import Span, trace_headers
from ....gateway.transport import Stream
from .. import headers as mirrored
from .. import wire
from ..wire import Caller, Envelope, OnPrimed
from .large import passed_on
from .link import Call, Expired, Hello, Link, is_answer, log, result_of

RESUMES = 5  # connections in a row that fail before a stream is given up
RETRY = 1.0  # seconds before the next, unless the server names another time
MIN_RETRY = 0.05
MAX_RETRY = 30.0
DELETE_TIMEOUT = 2.0
KNOWN, LONG = 256, 256  # methods and names whose headers are kept; characters of a name


class HttpLink(Link):
    """A server at ``record.url``. The same object serves any number of calls at once."""

    def __init__(self, record: Record, host: Host, hello: Hello, changed: Callable[[], None]) -> None:
        super().__init__(record.name, hello, changed)
        self._record = record
        self._host = host
        self._url = record.url or ""
        self._own = [("accept", f"{wire.JSON_TYPE}, {wire.SSE_TYPE}"), ("content-type", wire.JSON_TYPE)]
        # By method and name, as long as the record's own headers, the hello and the session are these.
        self._known: tuple[object, Hello, str | None, dict[tuple[str, str | None], Fixed]]
        self._known = None, hello, None, {}

    # --- sending -----------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        span: Span | None = None,
        schema: Any = None,
    ) -> msgspec.Raw:
        traced = trace_headers(caller.trace if span is None else span)
        call, params = self.begin(method, params, caller, traced)
        headers: list[tuple[str, str] | Fixed] = [self._fixed(method, params)]
        if schema is not None:
            headers += mirrored.param_headers(schema, params.get("arguments"))
        if span is not None:
            headers += traced
            span.own["jsonrpc.request.id"] = str(call.id)
        body = wire.encode_request(call.id, method, params)
        try:
            reply = await self._host.transport.opened("POST", self._url, headers=headers, body=body)
            try:
                streams = media_type(reply.header("content-type") or "") == wire.SSE_TYPE
                if streams or (whole := reply.whole()) is None:
                    return await self._answered(reply, call)
                return self._result(reply, whole, call)
            finally:
                reply.close()
        except asyncio.CancelledError:
            if self.hello.era == "handshake":
                self.abandoned(call)
            raise
        finally:
            self.end(call)

    def _fixed(self, method: str, params: Mapping[str, Any]) -> Fixed:
        """The headers that all such requests have, but for those that mirror arguments."""
        resolved, hello, session, known = self._known
        own = self._host.headers(self._record)
        if resolved is not own or hello is not self.hello or session is not self.session_id:
            known = {}
            self._known = own, self.hello, self.session_id, known
        modern = self.hello.era == "modern"
        name = params.get(wire.NAMED_BY.get(method, "")) if modern else None
        key = method, name if isinstance(name, str) else None
        found = known.get(key)
        if found is None:
            headers = self.headers()
            if modern:
                headers += mirrored.request_headers(self.hello.version, method, params)
            found = Fixed(headers)
            if len(known) < KNOWN and len(key[1] or "") < LONG:
                known[key] = found
        return found

    async def send(self, message: bytes) -> None:
        headers = self.headers()
        reply = await self._host.transport.request("POST", self._url, headers=headers, body=message)
        self._check(reply.status, reply.body)

    def headers(self) -> list[tuple[str, str]]:
        """Those of every request: the record's own, resolved now, then the protocol's."""
        headers = [*self._host.headers(self._record), *self._own]
        if self.session_id is not None:
            headers.append((wire.H_SESSION, self.session_id))
        if self.hello.era == "handshake" and self.hello.version:
            headers.append((wire.H_VERSION, self.hello.version))
        return headers

    # --- receiving ---------------------------------------------------------------------------

    async def _answered(self, reply: Stream, call: Call) -> msgspec.Raw:
        """One that has not come as a whole with its head, or is no JSON-RPC answer."""
        content_type = media_type(reply.header("content-type") or "")
        if content_type == wire.SSE_TYPE and reply.status == 200:
            self._keep_session(call, reply)
            return await self._streamed(reply, call)
        if not reply.complete and (content_type, reply.status) == (wire.JSON_TYPE, 200):
            passed = await passed_on(self.agent, reply, call)
            if passed is not None:
                return passed
        return self._result(reply, await reply.read(), call)

    def _result(self, reply: Stream, body: bytes, call: Call) -> msgspec.Raw:
        """What the whole answer says."""
        if reply.status == 404 and self.session_id is not None:
            raise Expired
        answer = wire.answer(body, call.id)
        if answer is None:
            self._check(reply.status, body)
            raise BadUpstream(
                f"{self.agent} did not answer with an MCP message",
                native={"protocol": "http", "code": reply.status},
                detail=body[:2000].decode("utf-8", "replace"),
            )
        self._keep_session(call, reply)
        return result_of(answer)

    def _keep_session(self, call: Call, reply: Stream) -> None:
        if call.method == wire.INITIALIZE:
            self.session_id = reply.header(wire.H_SESSION)

    def _check(self, status: int, body: bytes) -> None:
        """Raise for a status that is no success and came without a JSON-RPC error."""
        if status < 300:
            return
        native = {"protocol": "http", "code": status}
        detail = body[:2000].decode("utf-8", "replace")
        if self.session_id is not None and (status == 404 or (status == 400 and "session" in detail.lower())):
            raise Expired
        if status == 401:
            raise NeedsAuth(self._wanted(), detail=detail)
        if status == 403:
            raise Unreachable(
                f"{self.agent} refuses the gateway's credentials (HTTP {status})",
                native=native,
                detail=detail,
            )
        if status >= 500:
            raise UpstreamFailed(self.agent, native=native, detail=detail)
        raise BadUpstream(f"{self.agent} answered with HTTP {status}", native=native, detail=detail)

    def _wanted(self) -> str:
        """What to say of a server that wants credentials (HTTP 401)."""
        record = self._record
        if record.oauth or record.login or any(name.lower() == "authorization" for name in record.headers):
            return f"{self.agent} refuses the gateway's credentials (HTTP 401)"
        return f"{self.agent} wants a login: run agentgw agents login {self.agent}"

    async def _streamed(self, reply: Stream, call: Call) -> msgspec.Raw:
        """Read the call's stream up to its answer, taking it up again where it breaks or the server ends it
        early (until 2025-11-25, "Resumability and Redelivery")."""
        cursor = self._cursor(call.caller.on_primed if self.hello.era == "handshake" else None)
        broken = False
        try:
            answer = await self._read(cursor.messages(reply, call), call)
            if answer is not None:
                reply.settle()
        except Unreachable:
            if not self._resumes(cursor):
                raise
            answer, broken = None, True
        if answer is None and self._resumes(cursor):
            if not broken and call.caller.on_hang_up is not None:
                await call.caller.on_hang_up(cursor.retry)
            answer = await self._taken_up(cursor, call)
        if answer is None:
            raise UpstreamFailed(self.agent, detail="the stream ended before the answer")
        return result_of(answer)

    def _cursor(self, on_primed: OnPrimed | None = None) -> _Cursor:
        return _Cursor(self.agent, self._host.config.limits.body, on_primed)

    def _resumes(self, cursor: _Cursor) -> bool:
        return self.hello.era == "handshake" and cursor.last_id is not None

    async def _taken_up(self, cursor: _Cursor, call: Call) -> Envelope | None:
        """The answer, in as many GETs as it takes. A server that lets itself be polled may end each of them
        with nothing; connections that fail are another matter. Who waits for the call bounds the time."""
        failures = 0
        while failures < RESUMES:
            before, seen = cursor.last_id, cursor.count
            await asyncio.sleep(min(max(cursor.retry, MIN_RETRY) * 2**failures, MAX_RETRY))
            try:
                answer = await self._resumed(cursor, call)
            except Unreachable as e:
                if e.native is not None:
                    raise
                failures = failures + 1 if (cursor.last_id, cursor.count) == (before, seen) else 0
                continue
            except Expired:
                self.alive = False
                raise UpstreamFailed(self.agent, detail="the session ended before the answer") from None
            if answer is not None:
                return answer
            failures = 0
        return None

    async def _read(self, messages: AsyncIterator[Envelope], call: Call | None) -> Envelope | None:
        async for message in messages:
            if not is_answer(message):
                # Some servers ask on the session's own stream what belongs to a call.
                await self.receive(message, self.owner(message) if call is None else call)
            elif call is not None and message.id == call.id:
                return message
        return None

    async def _resumed(self, cursor: _Cursor, call: Call | None) -> Envelope | None:
        """One GET for the rest of a stream. Raises Unreachable when the connection breaks."""
        headers = [h for h in self.headers() if h[0] not in ("accept", "content-type")]
        headers.append(("accept", wire.SSE_TYPE))
        if cursor.last_id is not None:
            headers.append((wire.H_LAST_EVENT, cursor.last_id))
        async with self._host.transport.stream("GET", self._url, headers=headers) as reply:
            if reply.status != 200:
                self._check(reply.status, await reply.read())
                raise BadUpstream(f"{self.agent} answered with HTTP {reply.status}")
            return await self._read(cursor.messages(reply), call)

    # --- the session -------------------------------------------------------------------------

    def listen(self) -> None:
        """Open the GET stream, on which the server sends what belongs to no call. It may not offer one."""
        self.spawn(self._listening())

    async def _listening(self) -> None:
        cursor = self._cursor()
        failures = 0
        while failures < RESUMES:
            seen = cursor.count
            try:
                await self._resumed(cursor, None)
            except (GatewayError, Expired) as e:
                if not isinstance(e, Unreachable) or e.native is not None:
                    log.debug("%s has no stream of its own: %r", self.agent, e)
                    return
            failures = 0 if cursor.count > seen else failures + 1
            await asyncio.sleep(min(cursor.retry * 2**failures, MAX_RETRY))

    async def aclose(self) -> None:
        """End the session with DELETE; a server that does not answer soon is left alone."""
        if self.alive and self.session_id is not None:
            with contextlib.suppress(GatewayError):
                await self._host.transport.request(
                    "DELETE", self._url, headers=self.headers(), timeout=DELETE_TIMEOUT
                )
        await super().aclose()


@lru_cache(256)
def media_type(content_type: str) -> str:
    """Of a Content-Type header: without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def _progress(call: Call, data: bytes) -> bytes | None:
    """A notification of the call's progress, with its caller's own token; None for another call's. Raises
    msgspec.DecodeError for any other message."""
    note = wire.progressed(data)
    if note.params.progress_token != call.id:
        return None
    note.params.progress_token = call.token
    return msgspec.json.encode(note)


class _Cursor:
    """Where a stream has got to: ``last_id`` and ``retry`` (seconds) as the server sent them, how many
    messages came. ``limit``: bytes of an event. ``on_primed`` is called for events that bring only an id."""

    def __init__(self, agent: str, limit: int, on_primed: OnPrimed | None = None) -> None:
        self._agent = agent
        self._limit = limit
        self._on_primed = on_primed
        self.last_id: str | None = None
        self.retry = RETRY
        self.count = 0

    async def messages(self, reply: Stream, call: Call | None = None) -> AsyncIterator[Envelope]:
        """The messages of one response, but for progress of ``call`` that its caller takes at once. Raises
        Unreachable when the connection breaks."""
        decoder = sse.Decoder(self._limit)
        if call is not None and call.caller.at_once is not None and call.token is not msgspec.UNSET:
            reply.offer(sse.taker(decoder, partial(_progress, call), call.caller.at_once))
        async for chunk in reply.chunks():
            try:
                events = decoder.feed(chunk)
            except ValueError as e:
                raise BadUpstream(f"{self._agent} sent an event that is too large") from e
            if decoder.retry is not None:
                self.retry = decoder.retry / 1000
            for event in events:
                self.last_id = event.id or self.last_id
                if event.event == "message" and not event.data and event.id and self._on_primed is not None:
                    await self._on_primed()
                if event.event != "message" or not event.data:
                    continue
                try:
                    messages = wire.decode(event.data)
                except ValueError as e:
                    raise BadUpstream(f"{self._agent} sent an event that is no MCP message") from e
                for message in messages:
                    self.count += 1
                    yield message
            self.last_id = decoder.last_id or self.last_id
