"""MCP over stdio on one side, Streamable HTTP on the other. Messages pass as the bytes they are.

Handshake era: one session, kept with ``Mcp-Session-Id``, its event stream open so that the server's own
messages reach the host; a session the gateway forgot (it was restarted) is opened again with the host's own
``initialize``. Modern era: every request carries its version, headers mirror it, and
``notifications/cancelled`` closes the request's response.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from typing import Any

import msgspec

from ..adapters.mcp import headers, wire
from ..adapters.mcp.wire import Envelope, Id
from ..gateway.errors import GatewayError, UpstreamError
from .door import Arrived, Door, Forgotten, Refused
from .terminal import Stop

SEND = 30.0  # seconds for a notification to be taken
GRACE = 10.0  # seconds for calls under way once the host has closed its side
RETRY = (1.0, 30.0)  # seconds between two tries to reopen the event stream: first, longest
CONNECTION_ERROR = -32000


class Session(msgspec.Struct, frozen=True):
    """A handshake session: its id (None: the server keeps none) and the negotiated revision."""

    id: str | None
    version: str

    def headers(self) -> list[tuple[str, str]]:
        session = [(wire.H_SESSION, self.id)] if self.id is not None else []
        return [*session, (wire.H_VERSION, self.version)]


class Relay:
    """Relays one host to ``door``. ``write`` takes a line (without its end) for the host."""

    def __init__(self, door: Door, write: Callable[[bytes], None]) -> None:
        self._door = door
        self._write = write
        self._hello: bytes | None = None
        self._session: Session | None = None
        self._renewing = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: set[Id] = set()  # requests of the host that have no answer yet
        self._modern: dict[Id, asyncio.Task[None]] = {}
        self._version: str | None = None  # of the last modern request
        self._schemas: dict[str, Any] = {}  # of tools some of whose arguments go into headers

    # --- the host's side ---------------------------------------------------------------------

    async def serve(self, lines: AsyncIterator[bytes]) -> None:
        """Relay the host's lines until they end, then let calls under way finish (at most GRACE)."""
        async for line in lines:
            if line := line.strip():
                await self._line(line)
        if self._running:
            await asyncio.wait(self._running, timeout=GRACE)

    async def aclose(self) -> None:
        """End what is under way, and the session."""
        tasks = [*self._running, *([self._listening] if self._listening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None and self._session.id is not None:
            with contextlib.suppress(GatewayError, Stop):
                await self._door.delete(self._session.headers())

    async def _line(self, line: bytes) -> None:
        try:
            messages = wire.decode(line)
        except ValueError:
            self._write(wire.encode_error(None, wire.PARSE_ERROR, "this line is not a JSON-RPC message"))
            return
        if len(messages) == 1:
            await self._message(line, messages[0])
        else:  # a batch: 2025-03-26 only
            self._start(self._call(line, {id for m in messages if (id := _request_id(m)) is not None}))

    async def _message(self, line: bytes, message: Envelope) -> None:
        """One message. Requests run side by side; what must keep its order is waited for."""
        id = _request_id(message)
        params = _params(message)
        version = _version(params)
        if id is None:
            await self._notify(line, message, params)
        elif message.method == wire.INITIALIZE:
            await self._initialize(line, id)
        elif version is not None:
            self._version = version
            task = self._start(self._modern_call(line, message, id, params))
            self._modern[id] = task
            task.add_done_callback(lambda _: self._modern.pop(id, None))
        else:
            self._start(self._call(line, {id}))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _pass(self, arrived: Arrived) -> None:
        """Hand a message on to the host, on one line."""
        data = arrived.data.strip()
        if not data:  # an event that only carries an id, to resume from
            return
        try:
            messages = wire.decode(data)
        except ValueError:
            return
        for message in messages:
            if message.method is msgspec.UNSET and message.id is not msgspec.UNSET and message.id is not None:
                self._waiting.discard(message.id)
        self._write(msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data)

    @contextlib.contextmanager
    def _answering(self, ids: Iterable[Id]) -> Generator[None]:
        """Every request in ``ids`` has an answer after the block, an error if nothing else."""
        wanted = set(ids)
        self._waiting |= wanted
        error = wire.ErrorBody(CONNECTION_ERROR, "the answer broke off")
        try:
            yield
        except Refused as e:
            error = e.error
        except (GatewayError, Stop) as e:
            error.message = e.message
        except Forgotten:
            error.message = "the gateway can't be reached"
        except asyncio.CancelledError:
            self._waiting -= wanted
            raise
        for id in wanted & self._waiting:
            self._write(wire.encode_error(id, error.code, error.message, error.data))
        self._waiting -= wanted

    # --- the handshake era -------------------------------------------------------------------

    async def _initialize(self, line: bytes, id: Id) -> None:
        with self._answering([id]):
            await self._greet(line, self._pass)
            self._hello = line

    async def _greet(self, hello: bytes, pass_on: Callable[[Arrived], None]) -> None:
        """Send ``initialize`` and keep the session that the answer names."""
        await self._door.find()
        self._session = None
        async with contextlib.aclosing(self._door.post(hello, ())) as arrivals:
            async for arrived in arrivals:
                version = _negotiated(arrived.data)
                if version is not None:
                    self._session = Session(arrived.session, version)
                pass_on(arrived)

    def _headers(self) -> list[tuple[str, str]]:
        return self._session.headers() if self._session is not None else []

    async def _call(self, line: bytes, ids: set[Id]) -> None:
        """A request in the session; once more in a new session if the gateway forgot it."""
        with self._answering(ids):
            session = self._session
            try:
                await self._exchange(line, ids)
            except Forgotten:
                await self._renew(session)
                await self._exchange(line, ids)

    async def _exchange(self, line: bytes, ids: set[Id]) -> None:
        """POST and pass on what comes; an event stream that breaks before the answer is taken up again."""
        arrivals = self._door.post(line, self._headers())
        last: str | None = None
        while True:
            start = last
            try:
                async with contextlib.aclosing(arrivals):
                    async for arrived in arrivals:
                        last = arrived.event_id or last
                        self._pass(arrived)
                        if ids and not ids & self._waiting:
                            return
            except UpstreamError:
                if last is None:
                    raise
            if last == start or not ids & self._waiting:
                return
            arrivals = self._door.listen(self._headers(), last)

    async def _renew(self, old: Session | None) -> None:
        """Open the session again, unless that was done meanwhile."""
        async with self._renewing:
            if self._session is not old:
                return
            if self._hello is None:
                await self._door.find()
                return
            await self._greet(self._hello, lambda arrived: None)
            await self._send(wire.encode_notification(wire.INITIALIZED))
            self._listen()

    async def _notify(self, line: bytes, message: Envelope, params: dict[str, Any]) -> None:
        """A notification, or the host's answer to a question: nothing comes back."""
        if message.method == wire.CANCELLED:
            cancelled = params.get("requestId")
            if isinstance(cancelled, str | int):
                self._waiting.discard(cancelled)
                if cancelled in self._modern:
                    self._modern[cancelled].cancel()
                    return
        with contextlib.suppress(GatewayError, Stop, Forgotten, Refused, TimeoutError):
            async with asyncio.timeout(SEND):  # the lines behind it wait
                await self._send(line)
            if message.method == wire.INITIALIZED:
                self._listen()

    async def _send(self, line: bytes) -> None:
        head = self._headers()
        if self._session is None and self._version is not None:
            head = [(wire.H_VERSION, self._version)]
        async with contextlib.aclosing(self._door.post(line, head)) as arrivals:
            async for _ in arrivals:
                pass

    def _listen(self) -> None:
        """Open the session's event stream, in place of an older one."""
        old, self._listening = self._listening, None
        if old is not None and old is not asyncio.current_task():
            old.cancel()
        if self._session is not None:
            self._listening = asyncio.create_task(self._listener(self._session))

    async def _listener(self, session: Session) -> None:
        """Keep the event stream open for as long as the session lasts."""
        last: str | None = None
        delay, longest = RETRY
        while True:
            try:
                async with contextlib.aclosing(self._door.listen(session.headers(), last)) as arrivals:
                    async for arrived in arrivals:
                        last = arrived.event_id or last
                        delay = RETRY[0]
                        self._pass(arrived)
            except Refused as e:
                if e.status < 500:
                    return  # 405: the server has no such stream
            except Forgotten:
                with contextlib.suppress(GatewayError, Stop, Forgotten, Refused):
                    await self._renew(session)
                    return
            except (GatewayError, Stop):
                pass
            await asyncio.sleep(delay)
            delay = min(delay * 2, longest)

    # --- the modern era ----------------------------------------------------------------------

    async def _modern_call(self, line: bytes, message: Envelope, id: Id, params: dict[str, Any]) -> None:
        assert isinstance(message.method, str)
        with self._answering([id]):
            schema = self._schemas.get(params.get("name", "")) if message.method == wire.TOOLS_CALL else None
            head = headers.request_headers(self._version or "", message.method, params, schema)
            try:
                await self._modern_exchange(line, message.method, head)
            except Forgotten:
                await self._door.find()
                await self._modern_exchange(line, message.method, head)

    async def _modern_exchange(self, line: bytes, method: str, head: list[tuple[str, str]]) -> None:
        async with contextlib.aclosing(self._door.post(line, head)) as arrivals:
            async for arrived in arrivals:
                if method == wire.TOOLS_LIST:
                    self._schemas.update(_mirrored(arrived.data))
                self._pass(arrived)


def _request_id(message: Envelope) -> Id | None:
    """The id of a request; None for all else."""
    if message.method is msgspec.UNSET or isinstance(message.id, msgspec.UnsetType):
        return None
    return message.id


def _params(message: Envelope) -> dict[str, Any]:
    try:
        return wire.fields(message.params)
    except ValueError:
        return {}


def _version(params: dict[str, Any]) -> str | None:
    """The revision a modern request names in its ``_meta``."""
    meta = params.get("_meta")
    version: Any = meta.get(wire.META_VERSION) if isinstance(meta, dict) else None  # pyright: ignore
    return version if isinstance(version, str) else None


def _result(data: bytes) -> dict[str, Any]:
    """The result in an answer, {} where there is none."""
    try:
        messages = wire.decode(data)
        return wire.fields(messages[0].result) if len(messages) == 1 else {}
    except ValueError:
        return {}


def _negotiated(data: bytes) -> str | None:
    version = _result(data).get("protocolVersion")
    return version if isinstance(version, str) else None


def _mirrored(data: bytes) -> dict[str, Any]:
    """The input schemas, by tool, that send arguments as headers."""
    tools = wire.objects(_result(data).get("tools"))
    return {str(t.get("name")): s for t in tools if headers.annotated(s := t.get("inputSchema"))}
