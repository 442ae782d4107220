"""Calls of modern clients at handshake servers, kept open while the client answers the server's questions.

A handshake server asks in the middle of a call; a modern client is asked by an InputRequiredResult and calls
again (2026-07-28, basic/patterns/mrtr). In between the call upstream stays open for ``limits.question``
seconds, and the sealed ``requestState`` finds it again, for the same principal, agent and request only.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, cast

import msgspec
from msgspec import Raw

from ....gateway.ports import Engine
from .. import wire
from ..wire import Caller, RpcError
from . import eras
from .exchange import Exchange

PURPOSE = "mcp.parked"
LIMIT = 1000  # calls that wait; past it the oldest is given up
MISSED = 1000  # notifications kept for one while nobody listens; past it the oldest are lost
# Requests that a modern server may answer with a question.
MAY_ASK = frozenset({wire.TOOLS_CALL, wire.PROMPTS_GET, wire.RESOURCES_READ})
_NEEDS = {wire.ELICIT: "elicitation", wire.SAMPLING: "sampling", wire.ROOTS: "roots"}
_sorted = msgspec.json.Encoder(order="deterministic")

Send = Callable[[Caller], Awaitable[Raw]]


class _State(msgspec.Struct, frozen=True):
    """What a ``requestState`` says. ``round`` makes each work once; ``about`` is the request's digest."""

    call: str
    round: int
    agent: str
    principal: str
    about: str


class _Question(msgspec.Struct):
    method: str
    params: dict[str, Any]
    answer: asyncio.Future[dict[str, Any]]


class _Call:
    """One call upstream. ``exchange``: the client's request that waits for it now, if any."""

    def __init__(self, about: str, caller: Caller, send: Send) -> None:
        self.id = secrets.token_urlsafe(16)
        self.about = about
        self.round = 0
        self.questions: dict[str, _Question] = {}
        self.expiry: asyncio.TimerHandle | None = None
        self._declared = caller.client_capabilities
        self._exchange: Exchange | None = None
        self._missed: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MISSED)
        self._asked = asyncio.Event()
        self._number = 0
        caller = msgspec.structs.replace(caller, on_notification=self._told, on_request=self._ask)
        self.running = asyncio.ensure_future(send(caller))

    async def attach(self, exchange: Exchange) -> None:
        """From now on ``exchange`` hears what the server tells, first what came while nobody did."""
        self._exchange = exchange
        while self._missed:
            await self._told(*self._missed.popleft())

    def detach(self) -> None:
        self._exchange = None

    async def settled(self) -> bool:
        """Wait for the end (True) or an open question (False)."""
        while not self.running.done() and not self.questions:
            self._asked.clear()
            asked = asyncio.ensure_future(self._asked.wait())
            try:
                await asyncio.wait((self.running, asked), return_when=asyncio.FIRST_COMPLETED)
            finally:
                asked.cancel()
        return self.running.done()

    async def _told(self, method: str, params: dict[str, Any]) -> None:
        exchange = self._exchange
        if exchange is None:
            self._missed.append((method, params))
            return
        if method == wire.PROGRESS:
            if exchange.progress_token is None:
                return
            params = {**params, "progressToken": exchange.progress_token}
        await exchange.notify(method, params)

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if _NEEDS.get(method) not in self._declared:
            raise RpcError(wire.METHOD_NOT_FOUND, f"{method} is not supported by this client")
        self._number += 1
        key = f"question-{self._number}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.questions[key] = _Question(method, params, answer)
        self._asked.set()
        try:
            return await answer
        finally:
            self.questions.pop(key, None)

    def answer(self, responses: Mapping[str, Any]) -> None:
        """Hand the client's answers to the server; questions without one stay open."""
        for key, response in responses.items():
            question = self.questions.get(key)
            if question is None or question.answer.done() or not isinstance(response, dict):
                continue
            del self.questions[key]
            question.answer.set_result(cast("dict[str, Any]", response))


class Parking:
    """All calls that are open in this way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls: dict[str, _Call] = {}

    async def request(
        self, agent: str, exchange: Exchange, caller: Caller, send: Send
    ) -> Raw | dict[str, Any]:
        """Begin the client's request with ``send``, or go on with the one that its ``requestState`` names:
        the server's result, or an InputRequiredResult. Raises what ``send`` raises, and RpcError or
        InvalidRequest for a state that is not this request's or has expired."""
        given = exchange.arguments()
        if "requestState" in given:
            call = self._found(agent, exchange, given)
            responses = given.get("inputResponses")
            call.answer(cast("dict[str, Any]", responses) if isinstance(responses, dict) else {})
        else:
            call = _Call(_digest(exchange), caller, send)
            self._keep(call)
        try:
            await call.attach(exchange)
            if not await call.settled():
                return self._input_required(agent, exchange, call)
            self._calls.pop(call.id, None)
            return call.running.result()
        except asyncio.CancelledError:
            self._give_up(call)
            raise
        finally:
            call.detach()

    def close(self) -> None:
        """Give up all."""
        for call in list(self._calls.values()):
            self._give_up(call)

    def _found(self, agent: str, exchange: Exchange, given: Mapping[str, Any]) -> _Call:
        limit = self._engine.config.limits.question
        data = self._engine.sealer.unseal(str(given["requestState"]), PURPOSE, max_age=limit)
        state = msgspec.json.decode(data, type=_State)
        call = self._calls.get(state.call)
        own = (agent, exchange.principal.id, _digest(exchange))
        if (state.agent, state.principal, state.about) != own:
            raise RpcError(wire.INVALID_PARAMS, "requestState belongs to another request")
        if call is None or call.round != state.round or call.expiry is None:
            raise RpcError(wire.INVALID_PARAMS, "requestState was used already, or its call has ended")
        call.expiry.cancel()
        call.expiry = None
        return call

    def _input_required(self, agent: str, exchange: Exchange, call: _Call) -> dict[str, Any]:
        call.round += 1
        limit = self._engine.config.limits.question
        call.expiry = asyncio.get_running_loop().call_later(limit, self._give_up, call)
        state = _State(call.id, call.round, agent, exchange.principal.id, call.about)
        sealed = self._engine.sealer.seal(msgspec.json.encode(state), PURPOSE)
        self._engine.homes.claim(sealed)
        return {
            "resultType": "input_required",
            "inputRequests": {
                key: {"method": question.method, "params": eras.question(question.params, exchange.era)}
                for key, question in call.questions.items()
            },
            "requestState": sealed,
        }

    def _keep(self, call: _Call) -> None:
        self._calls[call.id] = call
        if len(self._calls) > LIMIT:
            waiting = (c for c in self._calls.values() if c.expiry is not None)
            with contextlib.suppress(StopIteration):
                self._give_up(next(waiting))

    def _give_up(self, call: _Call) -> None:
        self._calls.pop(call.id, None)
        if call.expiry is not None:
            call.expiry.cancel()
        call.running.add_done_callback(
            lambda t: None if t.cancelled() else t.exception()
        )  # nobody else looks
        call.running.cancel()


def _digest(exchange: Exchange) -> str:
    """What the request is about: equal for a call and its repetition."""
    own = ("_meta", "inputResponses", "requestState")
    params = {key: value for key, value in exchange.arguments().items() if key not in own}
    return sha256(_sorted.encode([exchange.method, params])).hexdigest()
