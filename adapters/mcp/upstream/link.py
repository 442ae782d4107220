"""One connection to an MCP server, whatever carries it: calls, what the server sends beside answers, and
the ``_meta`` that a request needs.

Ids and progress tokens of callers never go upstream: many callers share a link, so each request gets an id
of the link's own, and its progress token is that id.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

import msgspec

from ....gateway.errors import GatewayError, UpstreamError
from ....gateway.telemetry import Span
from .. import wire
from ..wire import Caller, Envelope, Era, RpcError

log = logging.getLogger("agentgw.mcp.upstream")

CLIENT_INFO: dict[str, Any] = {"name": "agentgw", "version": "0.1.0"}


MAX_LASTING = 1000  # tasks whose progress tokens a link remembers; past it the oldest are forgotten
MAX_JOBS = 1000  # questions and news of one server that are under way to clients
SESSION_WIDE = wire.LIST_CHANGED | {"notifications/resources/updated"}


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself when a link opens."""

    era: Era
    version: str
    server_info: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    instructions: str | None = None


class Expired(Exception):
    """The server has forgotten the session: open another and ask again (it has not seen the request)."""


class Inbox:
    """What comes for one call, in order, to one that waits for it. (asyncio's queues take 2.6 KB, empty.)"""

    __slots__ = ("_items", "_wake")

    def __init__(self) -> None:
        self._items: list[Envelope | UpstreamError] = []
        self._wake: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Envelope | UpstreamError) -> None:
        self._items.append(item)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self) -> Sequence[Envelope | UpstreamError]:
        """All that has come since the last time, once there is something."""
        while not self._items:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        items, self._items = self._items, []
        return items


class Call:
    """A request on its way. ``token`` is the caller's own progress token (UNSET: it wants no progress);
    ``lasting``: it is used beyond the answer."""

    __slots__ = ("_inbox", "asked", "caller", "held", "id", "lasting", "method", "span", "token")

    def __init__(self, id: int, method: str, caller: Caller, token: Any, lasting: bool = False) -> None:
        self.id = id
        self.method = method
        self.caller = caller
        self.token = token
        self.lasting = lasting
        self._inbox: Inbox | None = None
        self.held = 0  # bytes of news in the inbox
        self.asked: dict[wire.Id, asyncio.Task[None]] = {}  # the server's own open requests
        self.span: Span | None = None

    @property
    def inbox(self) -> Inbox:
        """What comes for the call on a link that all calls share."""
        if self._inbox is None:
            self._inbox = Inbox()
        return self._inbox

    def lost(self, phrase: str) -> None:
        """Say on the call's span what could not be carried."""
        if self.span is not None:
            known = self.span.own.get("agentgw.losses")
            self.span.set("agentgw.losses", f"{known}; {phrase}" if known else phrase)

    def abandon(self) -> None:
        """Nobody waits any more: the server's open questions are dropped."""
        for task in self.asked.values():
            task.cancel()


class Link(ABC):
    """Base of all links. ``changed`` is called when the server says that one of its lists changed."""

    transport = "tcp"

    def __init__(self, agent: str, hello: Hello, changed: Callable[[], None]) -> None:
        self.agent = agent
        self.hello = hello
        self.session_id: str | None = None
        self.alive = True
        self.subscribed = False  # to the server's changes, where the era has such
        self.used = time.monotonic()
        # By downstream session: who gets what belongs to no call, such as resources/updated.
        self.listeners: dict[str, Caller] = {}
        self.calls: dict[int, Call] = {}
        self._lasting: dict[int, Call] = {}  # answered with a task, whose progress may still come
        self._changed = changed
        self._ids = itertools.count(1)
        self._jobs: set[asyncio.Task[Any]] = set()

    # --- for users ---------------------------------------------------------------------------

    @abstractmethod
    async def request(
        self,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        span: Span | None = None,
        schema: Any = None,
    ) -> msgspec.Raw:
        """Send a request, wait for its result. Raises RpcError, GatewayError, Expired. Cancelling the
        awaiting task tells the server. ``schema``: the called tool's inputSchema, for mirrored headers."""

    @abstractmethod
    async def send(self, message: bytes) -> None:
        """Send a notification or an answer."""

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        await self.send(wire.encode_notification(method, params))

    async def aclose(self) -> None:
        """End the session and release what it holds."""
        self.alive = False
        for job in list(self._jobs):
            job.cancel()
        for call in list(self.calls.values()):
            call.abandon()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    @property
    def idle(self) -> bool:
        return not self.calls

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer (not merely for news)."""
        return any(call.method != wire.SUBSCRIPTIONS_LISTEN for call in self.calls.values())

    def lost(self, error: UpstreamError) -> None:
        """The way to the server is gone."""
        self.alive = False

    # --- for subclasses ----------------------------------------------------------------------

    def begin(
        self, method: str, params: dict[str, Any], caller: Caller, traced: Sequence[tuple[str, str]]
    ) -> tuple[Call, dict[str, Any]]:
        """A call with its own id, registered, and the params to send for it. ``traced``: the context of its
        span, as headers."""
        self.used = time.monotonic()
        call_id = next(self._ids)
        raw: Any = params.get("_meta")
        if raw is None and self.hello.era == "handshake":
            call = self.calls[call_id] = Call(call_id, method, caller, msgspec.UNSET)
            return call, ({**params, "_meta": dict(traced)} if traced else params)
        if type(raw) is wire.KeptMeta and self.hello.era == "modern":
            call = self.calls[call_id] = Call(call_id, method, caller, msgspec.UNSET)
            return call, {**params, "_meta": self._kept(raw, caller, traced)}
        if isinstance(raw, msgspec.Raw):
            raw = wire.fields(raw)
        meta: dict[str, Any] = dict(cast("dict[str, Any]", raw)) if isinstance(raw, dict) else {}
        token = meta.get("progressToken", msgspec.UNSET)
        if token is not msgspec.UNSET:
            meta["progressToken"] = call_id
        meta |= traced
        if self.hello.era == "modern":
            meta |= self._own_meta(caller)
        # 2025-11-25, basic/utilities/tasks: the progress token stays good as long as the task runs.
        lasting = self.hello.era == "handshake" and "task" in params and token is not msgspec.UNSET
        call = Call(call_id, method, caller, token, lasting)
        self.calls[call_id] = call
        return call, ({**params, "_meta": meta} if meta else params)

    def _kept(self, meta: wire.KeptMeta, caller: Caller, traced: Sequence[tuple[str, str]]) -> msgspec.Raw:
        """What ``begin`` makes of such a ``_meta``, which names neither a progress token nor a trace."""
        hello, capabilities, info, before = meta.sent
        if (
            hello is not self.hello
            or capabilities is not caller.client_capabilities
            or info is not caller.client_info
        ):
            before = wire.encode(meta | self._own_meta(caller))[:-1]
            meta.sent = self.hello, caller.client_capabilities, caller.client_info, before
        more = b",%b" % wire.encode(dict(traced))[1:] if traced else b"}"
        return msgspec.Raw(before + more)

    def _own_meta(self, caller: Caller) -> dict[str, Any]:
        """What every request of the modern era has in its ``_meta``."""
        return {
            wire.META_VERSION: self.hello.version,
            wire.META_CLIENT_CAPABILITIES: caller.client_capabilities,
            wire.META_CLIENT_INFO: caller.client_info or CLIENT_INFO,
        }

    def end(self, call: Call) -> None:
        """The call is over."""
        self.calls.pop(call.id, None)
        if call.asked:
            call.abandon()
        self.used = time.monotonic()
        if call.lasting:
            self._lasting[call.id] = call
            if len(self._lasting) > MAX_LASTING:
                del self._lasting[next(iter(self._lasting))]

    def spawn(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run beside the calls, ended with the link."""
        task = asyncio.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return task

    def abandoned(self, call: Call) -> None:
        """Tell the server, off the cancelled task's path, that nobody waits for ``call`` any more.
        ``initialize`` must not be cancelled (basic/utilities/cancellation)."""
        if self.alive and call.method != wire.INITIALIZE:
            reason = {"requestId": call.id, "reason": "the client no longer waits"}
            self.spawn(self._quietly(self.notify, wire.CANCELLED, reason))

    async def _quietly(self, send: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await send(*args)
        except (GatewayError, Expired) as e:
            log.debug("%s: %r", self.agent, e)

    # --- what the server sends ---------------------------------------------------------------

    async def receive(self, message: Envelope, call: Call | None) -> None:
        """Handle a request or notification of the server. ``call``: the one it belongs to, if known."""
        method = message.method
        if not isinstance(method, str):
            log.debug("%s: an answer nobody waits for: %r", self.agent, message.id)
            return
        try:
            params = wire.fields(message.params)
        except ValueError as e:
            log.debug("%s: %s with broken params: %s", self.agent, method, e)
            return
        if isinstance(message.id, int | str):
            self._asked(message.id, method, params, call)
        else:
            await self._notified(method, params, call)

    async def _notified(self, method: str, params: dict[str, Any], call: Call | None) -> None:
        if method == wire.CANCELLED:
            self._withdrawn(params.get("requestId"))
            return
        if method in wire.LIST_CHANGED:
            self._changed()
        if method == wire.PROGRESS:
            of = self._by_token(params.get("progressToken"))
            if of is None or of.token is msgspec.UNSET:
                return
            params = {**params, "progressToken": of.token}
            call = of if of.id in self.calls else call  # a task's goes where it came
        if call is None:
            for listener in self.listeners.values():
                # A slow one must not hold up the link, nor let what waits for it pile up.
                if listener.on_notification is not None and len(self._jobs) < MAX_JOBS:
                    self.spawn(self._quietly(listener.on_notification, method, params))
        elif call.caller.on_notification is not None:
            await call.caller.on_notification(method, params)

    def _by_token(self, token: Any) -> Call | None:
        return (self.calls.get(token) or self._lasting.get(token)) if isinstance(token, int) else None

    def owner(self, message: Envelope) -> Call | None:
        """On a link that all calls share: the call that a message of the server belongs to. Progress and
        subscriptions name it; anything else is the only call's, or nobody's."""
        try:
            params = wire.fields(message.params)
        except ValueError:
            return None
        if message.method == wire.PROGRESS:
            of = self._by_token(params.get("progressToken"))
            return of if of is None or of.id in self.calls else None
        meta = params.get("_meta")
        subscription: Any = (
            cast("dict[str, Any]", meta).get(wire.META_SUBSCRIPTION) if isinstance(meta, dict) else None
        )
        if subscription is not None:
            return self.calls.get(subscription) if isinstance(subscription, int) else None
        if message.method in SESSION_WIDE and self.listeners:
            return None
        calls = [c for c in self.calls.values() if c.method != wire.SUBSCRIPTIONS_LISTEN]
        return calls[0] if len(calls) == 1 else None

    # --- what the server asks ----------------------------------------------------------------

    def _asked(self, id: wire.Id, method: str, params: dict[str, Any], call: Call | None) -> None:
        if len(self._jobs) >= MAX_JOBS:
            log.debug("%s asks too much at once: %s is not answered", self.agent, method)
            return
        task = self.spawn(self._answer(id, method, params, call))
        if call is not None:
            asked = call.asked
            asked[id] = task
            task.add_done_callback(lambda _: asked.pop(id, None))

    def _withdrawn(self, id: Any) -> None:
        for call in self.calls.values():
            if isinstance(id, int | str) and id in call.asked:
                call.asked[id].cancel()

    async def _answer(self, id: wire.Id, method: str, params: dict[str, Any], call: Call | None) -> None:
        try:
            answer = wire.encode_result(id, await self._reply(method, params, call))
        except RpcError as e:
            answer = wire.encode_error(id, e.code, e.message, e.data)
        except GatewayError as e:
            answer = wire.encode_error(id, wire.INTERNAL_ERROR, e.message)
        except Exception:
            log.debug("%s: %s could not be answered", self.agent, method, exc_info=True)
            answer = wire.encode_error(id, wire.INTERNAL_ERROR, "the client failed")
        await self._quietly(self.send, answer)

    async def _reply(self, method: str, params: dict[str, Any], call: Call | None) -> dict[str, Any]:
        if method == wire.PING:
            return {}
        receiver = call.caller if call is not None else self._sole_listener() or self._sole_session()
        if receiver is None and len(self.calls) > 1:
            log.debug("%s asks %s, and it can't be told on whose behalf", self.agent, method)
            for waiting in self.calls.values():
                waiting.lost("a question that names no call")
            if method == wire.ELICIT:
                return {"action": "decline"}
        if receiver is None or receiver.on_request is None:
            log.debug("%s asks %s, which nobody here answers", self.agent, method)
            raise RpcError(wire.METHOD_NOT_FOUND, f"{method} is not supported by this client")
        return await receiver.on_request(method, params)

    def _sole_session(self) -> Caller | None:
        """Where all calls in flight are one client's: any of them, for it is asked on whichever stream."""
        callers = [call.caller for call in self.calls.values()]
        one = callers and callers[0].session is not None
        return callers[0] if one and {caller.session for caller in callers} == {callers[0].session} else None

    def _sole_listener(self) -> Caller | None:
        return next(iter(self.listeners.values())) if len(self.listeners) == 1 else None


def result_of(answer: Envelope) -> msgspec.Raw:
    """The result of an answer; raises RpcError for an error."""
    if isinstance(answer.error, wire.ErrorBody):
        raise RpcError(answer.error.code, answer.error.message, answer.error.data)
    return answer.result if isinstance(answer.result, msgspec.Raw) else msgspec.Raw(b"{}")


def is_answer(message: Envelope) -> bool:
    """Whether the message answers a request."""
    return not isinstance(message.method, str)
