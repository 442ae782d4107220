"""Sessions of the handshake era: who opened them, what runs in them, what the server side asks in them.

A session's id is unguessable and works only for the principal and the door that it was opened with; it is
no authentication. Sessions live in memory: after a restart a client gets 404 and opens a new one
(2025-11-25, basic/transports: Session Management).
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ....gateway.errors import InvalidRequest
from ....gateway.homes import Homes
from ....gateway.model import Principal
from .. import wire
from ..wire import Caller, Envelope, Id, RpcError
from . import eras
from .streams import Stream, Streams, Total

LIMIT = 10_000
# Bytes of what clients say of themselves, which is kept as long as their sessions: of one, of all.
MOST_SAID, ALL_SAID = 1 << 20, 64 << 20
IDLE = 3600.0  # seconds without any request, and without an open stream
Send = Callable[[bytes], Awaitable[bool]]  # whether anybody may have got it


class Server(Protocol):
    """A server upstream, as far as sessions know it."""

    async def end_session(self, session: str) -> None: ...


class Work(Protocol):
    """A request that is being answered."""

    def cancel(self) -> object: ...


class Session:
    """One client's session at one door (``scope``: the agent's name, "" for all). ``homes`` makes its id."""

    def __init__(
        self,
        principal: Principal,
        scope: str,
        revision: str,
        params: dict[str, Any],
        homes: Homes | None = None,
    ) -> None:
        token = secrets.token_urlsafe(24)
        self.id = token if homes is None else homes.new(token)
        self.lent = False  # another process has it: see ``lending``
        self.principal = principal
        self.scope = scope
        self.revision = revision
        self.client_capabilities: dict[str, Any] = _object(params.get("capabilities"))
        self.client_info: dict[str, Any] = _object(params.get("clientInfo"))
        self.size = len(wire.encode((self.client_capabilities, self.client_info)))
        if self.size > MOST_SAID:
            raise InvalidRequest(f"capabilities and clientInfo must not take more than {MOST_SAID} bytes")
        self.log_level: str | None = None
        self.streams = Streams()
        self.running: dict[Id, Work] = {}
        self.servers: set[Server] = set()  # those that hold something of this session's
        self.levels: dict[Server, str] = {}  # the log level that each of them was told
        self.used = 0.0
        self._jobs: set[asyncio.Task[None]] = set()
        self._asked: dict[Id, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)

    # --- the client's own stream ---------------------------------------------------------------

    @property
    def own(self) -> Stream:
        """The stream for messages that belong to no request. A new connection takes it over: a client that
        lost its connection comes back before the loss is noticed here."""
        return self.streams.own

    def push(self, message: bytes) -> None:
        """Send on that stream; where nobody ever opened it the message is lost, as the protocol allows."""
        self.own.append(message)

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Pass on what one server says outside of any call. That its lists changed means little where
        many servers share one list: ``changes`` compares and tells."""
        if self.scope or method not in wire.LIST_CHANGED:
            self.push(wire.encode_notification(method, params))

    def list_changed(self, kind: str) -> None:
        """Tell the client that its ``tools``, ``prompts`` or ``resources`` changed."""
        self.push(wire.encode_notification(f"notifications/{kind}/list_changed"))

    # --- towards servers -----------------------------------------------------------------------

    def caller(self, question_timeout: float) -> Caller:
        """Who this is to a server, for what belongs to no call: both ways it goes over the client's own
        stream."""

        async def told(method: str, params: dict[str, Any]) -> None:
            if method != wire.LOG or eras.loud_enough(params, self.log_level):
                self.tell(method, params)

        async def asked(method: str, params: dict[str, Any]) -> dict[str, Any]:
            return await self.ask(self._push_now, method, params, question_timeout)

        return Caller(
            principal=self.principal,
            session=self.id,
            client_capabilities=self.client_capabilities,
            client_info=self.client_info or None,
            on_notification=told,
            on_request=asked,
        )

    async def _push_now(self, message: bytes) -> bool:
        self.push(message)
        return self.own.reachable

    # --- questions to the client ---------------------------------------------------------------

    async def ask(self, send: Send, method: str, params: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send a request to the client on a call's stream and wait for its answer, which comes as a POST
        of its own. Raises RpcError: the client's, or after ``timeout`` seconds."""
        number = f"agentgw-{next(self._numbers)}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            if not await send(wire.encode_request(number, method, params)):
                raise RpcError(wire.INTERNAL_ERROR, "the client has left")
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise RpcError(wire.INTERNAL_ERROR, "the client did not answer in time") from None
        finally:
            del self._asked[number]

    def answered(self, envelope: Envelope) -> bool:
        """Take a client's answer; False when nothing of that id was asked."""
        future = self._asked.get(envelope.id) if isinstance(envelope.id, int | str) else None
        if future is None or future.done():
            return False
        if isinstance(envelope.error, wire.ErrorBody):
            error = envelope.error
            future.set_exception(RpcError(error.code, error.message, error.data))
        else:
            future.set_result(wire.fields(envelope.result))
        return True

    def cancel(self, id: Any) -> None:
        """The client takes a request back; unknown ones may have ended already."""
        running = self.running.get(id) if isinstance(id, int | str) else None
        if running is not None:
            running.cancel()

    def keep(self, job: asyncio.Task[None]) -> None:
        """Let a job end with the session."""
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        if self.own.ended:
            job.cancel()

    def close(self) -> None:
        """End the stream and everything that runs."""
        self.own.end()
        for task in (*self.running.values(), *self._jobs):
            task.cancel()
        self.streams.close()


class Sessions:
    """All open sessions. ``closed`` is called with each one that ends; ``replay``: what all keep for clients
    that may come back."""

    def __init__(self, closed: Callable[[Session], None]) -> None:
        self._sessions: dict[str, Session] = {}  # the least recently used first
        self._size = 0
        self.replay = Total()
        self._closed = closed

    def add(self, session: Session) -> None:
        """Keep a new one. Those idle for too long, and past the limits the longest idle, are closed."""
        self._sessions[session.id] = session
        session.streams.total = self.replay
        self._size += session.size
        session.used = _now()
        self._expire()

    def __contains__(self, id: str) -> bool:
        return id in self._sessions

    def get(self, id: str, principal: Principal, scope: str) -> Session | None:
        """The session, if it is this principal's and was opened at this door."""
        session = self._sessions.get(id)
        if session is None or session.principal.id != principal.id or session.scope != scope:
            return None
        session.used = _now()
        self._sessions[id] = self._sessions.pop(id)
        return session

    def close(self, session: Session) -> None:
        """End one."""
        if self._sessions.pop(session.id, None) is not None:
            self._size -= session.size
            session.close()
            self._closed(session)

    def end_streams(self) -> None:
        """End the streams that wait for news; the sessions and their calls go on."""
        for session in self._sessions.values():
            session.own.hang_up()

    def close_all(self) -> None:
        """End all."""
        for session in list(self._sessions.values()):
            self.close(session)

    def _expire(self) -> None:
        oldest = _now() - IDLE
        for session in list(self._sessions.values()):
            crowded = len(self._sessions) > LIMIT or self._size > ALL_SAID
            if session.used >= oldest and not crowded:
                return
            if not session.own.connected and not session.running:
                self.close(session)


_now = time.monotonic


def _object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("capabilities and clientInfo must be objects")
    return value  # pyright: ignore[reportUnknownVariableType]
