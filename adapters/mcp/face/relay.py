"""One MCP server behind the gateway: requests pass to it as they are, across eras with another envelope."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ....gateway.errors import BadUpstream, Draining
from ....gateway.lifecycle import TERMINAL
from ....gateway.limits import CallLimits, allowed
from ....gateway.model import Task
from ....gateway.ports import AgentView, Engine
from ....gateway.readable import UNREADABLE
from ....gateway.waiting import Waiting
from .. import wire
from ..upstream.following import SeenTask
from ..upstream.link import Hello
from ..upstream.upstream import McpUpstream
from ..wire import Caller, Era, RpcError
from . import eras, links, rpc_errors, tasks
from .exchange import Exchange
from .parked import MAY_ASK, Parking
from .signs import Signs
from .watching import Watches

SET_LEVEL = "logging/setLevel"
_REPEATED = frozenset({"inputResponses", "requestState"})  # each round has its own
_ROUNDS = 20  # questions in a row that one call may ask of a client of the handshake era
# What has results that nobody looks into between client and server.
_PASSING = frozenset({wire.TOOLS_CALL, wire.PROMPTS_GET, wire.RESOURCES_READ})
_ERA_ONLY = {
    "handshake": frozenset({wire.DISCOVER, wire.SUBSCRIPTIONS_LISTEN, "tasks/update"}),
    "modern": frozenset({
        wire.INITIALIZE, wire.PING, SET_LEVEL, "resources/subscribe", "resources/unsubscribe",
        "tasks/list", "tasks/result",
    }),
}  # fmt: skip


class _Flags(msgspec.Struct, frozen=True):
    is_error: bool = msgspec.field(name="isError", default=False)
    type: str = msgspec.field(name="resultType", default="complete")
    task: Raw | UnsetType = UNSET


_flags = msgspec.json.Decoder(_Flags)


def level_of(exchange: Exchange) -> str:
    """The level in ``logging/setLevel``. Raises RpcError for none of the eight (RFC 5424)."""
    level = exchange.arguments().get("level")
    if level not in eras.LOG_LEVELS:
        raise RpcError(wire.INVALID_PARAMS, f"level must be one of {', '.join(eras.LOG_LEVELS)}")
    return level


def server_of(view: AgentView) -> McpUpstream | None:
    """The agent's own MCP server, if it is one."""
    return view.upstream if isinstance(view.upstream, McpUpstream) else None


class Relay:
    """Sends clients' requests on to their servers."""

    def __init__(self, engine: Engine) -> None:
        self.watches = Watches()
        self._engine = engine
        self._parking = Parking(engine)
        self._levels: dict[tuple[McpUpstream, str, str], tuple[Hello, str]] = {}
        self._waiting: set[Waiting] = set()  # requests that servers work on

    def cut(self) -> None:
        """Wait for no server any more: who waits is told that the gateway stops."""
        for waiting in list(self._waiting):
            waiting.end(Draining())

    def close(self) -> None:
        """Give up the calls that wait for clients to answer, and all subscriptions."""
        self._parking.close()
        self.watches.close()

    async def __call__(
        self, view: AgentView, server: McpUpstream, exchange: Exchange, **changes: Any
    ) -> Raw | dict[str, Any]:
        """Send the client's request to ``server`` and return its result in the client's era.

        ``changes`` replace members of the params (a tool's own name for its prefixed one). Where both speak
        one era the result's bytes pass untouched. Raises RpcError, without any crash text, and GatewayError.
        """
        exchange.set_agent(view)
        if exchange.session is not None:
            exchange.session.servers.add(server)
        caller = exchange.caller()
        catalog = server.known_catalog or await server.catalog()
        link = server.ready(caller) or await server.link(caller)
        hello = link.hello
        params = exchange.members()
        if changes:
            params |= changes
        mirrors = server.mirroring(catalog) if server.mirrors is None else server.mirrors
        if mirrors and exchange.method == wire.TOOLS_CALL and str(params.get("name")) in mirrors:
            params["arguments"] = exchange.arguments().get("arguments")  # headers are made of them
        if hello.era == "handshake" and (level := exchange.log_level) is not None:
            await self._set_level(server, exchange, hello, caller, level)
        if hello.era != exchange.era:
            if exchange.method in _ERA_ONLY[hello.era]:
                raise RpcError(wire.METHOD_NOT_FOUND, f"{view.name} does not support {exchange.method}")
            params = eras.to_server(params, hello.era, exchange.log_level)
        try:
            if hello.era != exchange.era:
                result = await self._request(view, server, exchange, params, caller)
            elif exchange.method in _PASSING:
                bounds = self._bounds(view, exchange)
                try:
                    with bounds:
                        watched = Signs(bounds, caller, exchange.pass_on).watched
                        result = await server.request(exchange.method, params, caller=watched, link=link)
                finally:
                    self._waiting.discard(bounds)
                    bounds.close()
            else:
                result = await self._send(view, server, exchange, params, caller)
        except RpcError as e:
            raise _translated(self._engine, view, exchange, hello.era, e) from None
        if isinstance(result, dict):
            exchange.set_state("input_required")
            return {**result, "_meta": {wire.META_SERVER_INFO: hello.server_info}}
        self._note(view, server, exchange, result)
        if hello.era == exchange.era:
            return result
        shown = eras.to_client(exchange.method, _fields(view, result), exchange.era, hello.server_info)
        if exchange.method == wire.TOOLS_LIST and tasks.known(hello.capabilities):
            marks = exchange.revision >= tasks.SINCE  # the gateway runs them (see ``task_calls``)
            shown["tools"] = [tasks.optional(tool) if marks else tool for tool in shown["tools"]]
        return shown

    def _note(self, view: AgentView, server: McpUpstream, exchange: Exchange, result: Raw) -> None:
        """What became of the call, for its span; a server's task, for the record."""
        flags = _read(result)
        named = exchange.method in (tasks.GET, tasks.CANCEL)
        if named or flags.type == "task" or not isinstance(flags.task, UnsetType):
            task = result if isinstance(flags.task, UnsetType) else flags.task
            self._observe(view, exchange, task, None if named else server)
        if flags.type != "complete":
            exchange.set_state(flags.type)
            return
        exchange.set_state("failed" if flags.is_error else "completed")
        if flags.is_error:
            exchange.error_type = "tool_error"

    def _observe(self, view: AgentView, exchange: Exchange, named: Raw, server: McpUpstream | None) -> None:
        """``server``: where it has begun with this."""
        try:
            seen = msgspec.json.decode(named, type=SeenTask)
        except UNREADABLE:
            return
        exchange.set_task(seen.id)
        extra = {"mcp": {"era": exchange.era, **({"kept": seen.kept} if seen.kept else {})}}
        task = Task(id=seen.id, context_id="", agent=view.name, state=seen.state, extra=extra)
        self._engine.observe(task, exchange.principal, upstream=view.name)
        if server is not None and seen.state not in TERMINAL:
            server.began(seen.id, exchange.caller())
            self._engine.look_after(seen.id, exchange.principal)

    async def _send(
        self,
        view: AgentView,
        server: McpUpstream,
        exchange: Exchange,
        params: dict[str, Any],
        caller: Caller,
    ) -> Raw:
        """Send once, within the call's limits of time."""
        if exchange.method == tasks.RESULT:  # waits for a task, which has its own limits
            return await self._unlimited(server, exchange, params, caller)
        bounds = self._bounds(view, exchange)
        try:
            with bounds:
                return await server.request(exchange.method, params, caller=Signs(bounds, caller).watched)
        finally:
            self._waiting.discard(bounds)
            bounds.close()

    def _bounds(self, view: AgentView, exchange: Exchange) -> CallLimits:
        """The call's limits of time, which also end when the gateway stops."""
        idle, total = allowed(view.record, self._engine.config.limits, exchange.timeouts)
        bounds = CallLimits(self._engine.timers, view.name, idle, total, exchange.task)
        self._waiting.add(bounds)
        return bounds

    async def _unlimited(
        self, server: McpUpstream, exchange: Exchange, params: dict[str, Any], caller: Caller
    ) -> Raw:
        waiting = Waiting()
        self._waiting.add(waiting)
        try:
            with waiting:
                return await server.request(exchange.method, params, caller=caller)
        finally:
            self._waiting.discard(waiting)

    async def _request(
        self,
        view: AgentView,
        server: McpUpstream,
        exchange: Exchange,
        params: dict[str, Any],
        caller: Caller,
    ) -> Raw | dict[str, Any]:
        """One request to a server of the other era, and what it asks in between, in the way of the client's
        era. An object is an InputRequiredResult."""

        async def send(caller: Caller, params: dict[str, Any] = params) -> Raw:
            return await self._send(view, server, exchange, params, caller)

        if exchange.era == "handshake":
            return await _request_again(send, exchange, params, caller)
        if exchange.method not in MAY_ASK or not (caller.interactive or exchange.head.state is not None):
            return await send(caller)
        try:
            return await self._parking.request(view.name, exchange, caller, send)
        except RpcError as e:
            return links.asked(exchange, e)

    async def _set_level(
        self, server: McpUpstream, exchange: Exchange, hello: Hello, caller: Caller, level: str
    ) -> None:
        """Tell a handshake server which log level its client wants: once a session, where it has one; else
        the least that any client has asked for on the link that it shares with others."""
        session = exchange.session
        if "logging" not in hello.capabilities:
            return
        if session is not None:
            if session.levels.get(server) == level:
                return
            session.levels[server] = level
        else:
            key = (server, caller.principal.id, caller.can_be_asked)
            known = self._levels.get(key)
            if known is not None and known[0] is hello and not eras.louder(level, known[1]):
                return
            self._levels[key] = (hello, level)
        with contextlib.suppress(RpcError):
            await server.request(SET_LEVEL, {"level": level}, caller=caller)


async def _request_again(
    send: Callable[[Caller, dict[str, Any]], Awaitable[Raw]],
    exchange: Exchange,
    params: dict[str, Any],
    caller: Caller,
) -> Raw:
    """A client of the handshake era is asked what a modern server wants to know, and the request repeated
    with its answers (2026-07-28, basic/patterns/mrtr)."""
    for _ in range(_ROUNDS):
        result = await send(caller, params)
        if _read(result).type != "input_required":
            return result
        first = {key: value for key, value in params.items() if key not in _REPEATED}
        params = {**first, **await _answers(exchange, result)}
    raise RpcError(wire.INVALID_REQUEST, "the server asks without end")


class _Question(msgspec.Struct, frozen=True):
    method: str
    params: dict[str, Any] = {}


class _InputRequired(msgspec.Struct, frozen=True, omit_defaults=True):
    requests: dict[str, _Question] = msgspec.field(name="inputRequests", default_factory=dict[str, _Question])
    state: Raw | UnsetType = msgspec.field(name="requestState", default=UNSET)


async def _answers(exchange: Exchange, result: Raw) -> dict[str, Any]:
    """What to add to the params when the request is repeated."""
    try:
        asked = msgspec.json.decode(result, type=_InputRequired)
    except UNREADABLE as e:
        raise BadUpstream("the server's question can't be read", detail=str(e)) from e
    answers = {
        key: await exchange.ask(q.method, eras.question(q.params, exchange.era))
        for key, q in asked.requests.items()
    }
    again: dict[str, Any] = {"inputResponses": answers}
    return again if isinstance(asked.state, UnsetType) else {**again, "requestState": asked.state}


def _translated(
    engine: Engine, view: AgentView, exchange: Exchange, server: Era, error: RpcError
) -> RpcError:
    exchange.set_state("failed")
    words = engine.sanitize(view.name, error.message) if error.crash else ""
    shown = rpc_errors.passable(error, words, exchange.trace_id)
    if server != exchange.era:
        shown.code = eras.error_code(exchange.method, shown.code, shown.data, exchange.era)
    return shown


def _read(result: Raw) -> _Flags:
    try:
        return _flags.decode(result)
    except UNREADABLE:
        return _Flags()


def _fields(view: AgentView, result: Raw) -> dict[str, Any]:
    try:
        return wire.fields(result)
    except ValueError as e:
        raise BadUpstream(f"{view.name} sent a result that is no object", detail=str(e)) from e
