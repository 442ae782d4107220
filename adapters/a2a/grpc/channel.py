"""A gRPC interface of an agent, with parameters and results in JSON's form like the other bindings."""

from __future__ import annotations

import asyncio
from asyncio import sleep
from collections.abc import AsyncGenerator, Awaitable, Sequence
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ....gateway.config import Limits
from ....gateway.errors import BadUpstream, InvalidRequest, Unreachable
from ....gateway.ports import Credentialed
from ....gateway.reach import Guard, pause_before
from ..card import Interface
from ..codec import Malformed
from ..schema import Method, schema
from ..upstream.channel import Activated, Credentials, Headers, Params, Taker, mapping
from ..upstream.discovery import elsewhere_at
from ..wire import V10, Op
from .bridge import EXTENSIONS
from .optional import grpc
from .proto import SERVICE, decode, encode
from .status import agent_failure

Header = tuple[str, str]
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_encode = msgspec.json.Encoder().encode


class GrpcChannel:
    """Like ``upstream.channel.Channel``, but with connections of its own. The interface's URL says
    ``https`` for TLS. ``guard``: minds the agent's circuit. Raises ConfigError where gRPC is not
    installed."""

    def __init__(
        self,
        agent: str,
        interface: Interface,
        credentials: Credentials,
        limits: Limits,
        guard: Guard,
        allow: Sequence[str] | None = None,
        tokens: Credentialed | None = None,
    ) -> None:
        self.interface = interface
        self._tokens = tokens
        self.bounds = limits, allow
        self._credentials = credentials
        self._lib = grpc()
        self._agent = agent
        self._limits = limits
        self._guard = guard
        self._allow = allow
        self._open: dict[str | None, Any] = {}  # by address: a name may have several

    async def call(
        self,
        op: Op,
        params: Params,
        headers: Headers = (),
        activated: Activated | None = None,
        on_large: object = None,
    ) -> msgspec.Raw:
        method = _method(op)
        body = self._request(method, params)
        token = await self._token()
        while True:
            at, sent = await self._address(), self._metadata(headers, token)
            with self._guard:
                channel = await self._ready(at)
                call = channel.unary_unary(f"/{SERVICE}/{method.name}")(body, metadata=sent)
                answer, error = await self._begun(channel, call)
            if error is None:
                self._took()
                if activated is not None:
                    _tell(await call.initial_metadata(), activated)
                return self._result(method, answer)
            token = await self._other(error, token)

    async def stream(
        self,
        op: Op,
        params: Params,
        headers: Headers = (),
        activated: Activated | None = None,
        taker: Taker | None = None,
    ) -> AsyncGenerator[msgspec.Raw]:
        method = _method(op)
        body = self._request(method, params)
        token = await self._token()
        while True:
            at, sent = await self._address(), self._metadata(headers, token)
            call: Any = None
            answers: Any = None
            try:
                with self._guard:
                    channel = await self._ready(at)
                    call = channel.unary_stream(f"/{SERVICE}/{method.name}")(body, metadata=sent)
                    answers = aiter(call)
                    answer, error = await self._begun(channel, anext(answers, None))
                if error is None:
                    self._took()
                    if activated is not None:
                        _tell(await call.initial_metadata(), activated)
                    while answer is not None:
                        yield self._result(method, answer)
                        answer = await anext(answers, None)
                    return
            except self._lib.aio.AioRpcError as e:
                raise agent_failure(self._agent, e) from e
            finally:
                if call is not None:
                    call.cancel()
                if answers is not None:
                    await answers.aclose()  # else it holds the call, and that the connection
            token = await self._other(error, token)

    async def _begun(self, channel: Any, answer: Awaitable[bytes | None]) -> tuple[Any, Any]:
        """The answer's beginning, or the error that it is. Raises GatewayError where the agent is not to be
        reached."""
        try:
            return await answer, None
        except self._lib.aio.AioRpcError as e:
            if e.code() is self._lib.StatusCode.UNAVAILABLE and not self._is(channel, "READY"):
                raise agent_failure(self._agent, e) from e
            return None, e

    async def reach(self) -> None:
        """Connect. Raises Unreachable, CircuitOpen."""
        at = await self._address()
        with self._guard:
            await self._ready(at)

    # --- tokens ------------------------------------------------------------------------------

    async def _token(self) -> Header | None:
        return None if self._tokens is None else await self._tokens.credentials()

    def _took(self) -> None:
        if self._tokens is not None:
            self._tokens.accepted()

    async def _other(self, error: Any, refused: Header | None) -> Header:
        """Another token where the agent refused this one. Raises GatewayError where there is none, or that is
        not what went wrong."""
        if self._tokens is not None and error.code() is self._lib.StatusCode.UNAUTHENTICATED:
            token = await self._tokens.credentials(refused)
            if token is not None:
                return token
        raise agent_failure(self._agent, error) from error

    # --- the connection ----------------------------------------------------------------------

    async def _address(self) -> str | None:
        """The address as it was checked now; None where it needs no check."""
        if self._allow is None:
            return None
        return await elsewhere_at(self._agent, self.interface.url, self._allow)

    async def _ready(self, at: str | None) -> Any:
        """A connection that stands. Where none comes about it is tried again, as nothing was sent; but not
        where the time has run out. Raises Unreachable."""
        for attempt in count():
            channel = self._channel(at)
            if self._is(channel, "READY") or await self._connects(channel):
                return channel
            if attempt >= self._limits.retries or not self._guard.patient:
                break
            await sleep(pause_before(attempt))
        raise Unreachable(f"{self._agent} can't be reached")

    async def _connects(self, channel: Any) -> bool:
        """Whether a connection comes about. Raises Unreachable when that takes too long."""
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                states = self._lib.ChannelConnectivity
                # gRPC's threads change it at any time: what was looked at is what is waited to change.
                while (state := channel.get_state(try_to_connect=True)) is not states.READY:
                    if state is states.TRANSIENT_FAILURE:
                        return False
                    await channel.wait_for_state_change(state)
        except TimeoutError as e:
            raise Unreachable(f"{self._agent} can't be reached") from e
        return True

    def _channel(self, at: str | None) -> Any:
        # One that failed waits ever longer by itself, and when to try again is ours to say.
        if at not in self._open or self._is(self._open[at], "TRANSIENT_FAILURE"):
            self._open[at] = self._opened(at)
        return self._open[at]

    def _is(self, channel: Any, state: str) -> bool:
        """Whether a connection is in this state. With one that is ready, what came is the agent's answer."""
        return channel.get_state() is getattr(self._lib.ChannelConnectivity, state)

    def _opened(self, at: str | None) -> Any:
        parts = urlsplit(self.interface.url)
        host = parts.hostname or ""
        authority, target = parts.netloc, f"dns:///{parts.netloc}"
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self._limits.body),
            ("grpc.max_send_message_length", -1),
            ("grpc.min_reconnect_backoff_ms", int(self._limits.connect_timeout * 1000)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.primary_user_agent", "agentgw"),
            ("grpc.default_authority", authority),
        ]
        if at is not None:
            target = f"ipv6:[{at}]:{parts.port}" if ":" in at else f"ipv4:{at}:{parts.port}"
        if at is not None or host in _LOOPBACK:
            options.append(("grpc.enable_http_proxy", 0))
        if parts.scheme != "https":
            return self._lib.aio.insecure_channel(target, options=options)
        options.append(("grpc.ssl_target_name_override", host))
        return self._lib.aio.secure_channel(target, self._lib.ssl_channel_credentials(), options=options)

    def close(self) -> None:
        """Let go of the connections: each closes by itself once the last call on it has ended. To close it
        under a call would cancel whoever waits for that."""
        self._open.clear()

    # --- messages ----------------------------------------------------------------------------

    def _metadata(self, headers: Headers, token: Header | None) -> tuple[tuple[str, str], ...]:
        sent = [*self._credentials(), *headers, ("a2a-version", V10)]
        if token is not None:
            sent.append(token)
        return tuple((name.lower(), value) for name, value in sent)

    def _request(self, method: Method, params: Params) -> bytes:
        fields = {key: value for key, value in mapping(params).items() if key != "tenant"}
        if self.interface.tenant:
            fields["tenant"] = self.interface.tenant
        try:
            return encode(method.request, fields)
        except Malformed as e:
            raise InvalidRequest("the parameters are not A2A's", detail=str(e)) from e

    def _result(self, method: Method, data: bytes) -> msgspec.Raw:
        try:
            return msgspec.Raw(_encode(decode(method.answer, data)))
        except Malformed as e:
            raise BadUpstream(f"{self._agent} gave an answer that is not A2A", detail=str(e)) from e


def _method(op: Op) -> Method:
    return next(m for m in schema().methods if m.name == op.value)


def _tell(metadata: Any, activated: Activated) -> None:
    """Pass on the extensions that the agent says it used."""
    for key, value in metadata or ():
        if key == EXTENSIONS and isinstance(value, str):
            activated(value)
