"""A gRPC interface of an agent, with parameters and results in JSON's form like the other bindings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ....gateway.errors import BadUpstream, InvalidRequest
from ....gateway.ports import Credentialed
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
    ``https`` for TLS. ``limit``: bytes of one message. Raises ConfigError where gRPC is not installed."""

    def __init__(
        self,
        agent: str,
        interface: Interface,
        credentials: Credentials,
        limit: int,
        allow: Sequence[str] | None = None,
        tokens: Credentialed | None = None,
    ) -> None:
        self.interface = interface
        self._tokens = tokens
        self.here = allow is None
        self._credentials = credentials
        self._lib = grpc()
        self._agent = agent
        self._limit = limit
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
        channel = await self._connected()
        token = await self._token()
        for last in (False, True):
            sent = self._metadata(headers, token)
            call = channel.unary_unary(f"/{SERVICE}/{method.name}")(body, metadata=sent)
            try:
                answer: bytes = await call
                if activated is not None:
                    _tell(await call.initial_metadata(), activated)
                return self._result(method, answer)
            except self._lib.aio.AioRpcError as e:
                token = None if last else await self._other(e, token)
                if token is None:
                    raise agent_failure(self._agent, e) from e
        raise AssertionError("unreachable")

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
        channel = await self._connected()
        token = await self._token()
        while True:
            begun = False
            sent = self._metadata(headers, token)
            call = channel.unary_stream(f"/{SERVICE}/{method.name}")(body, metadata=sent)
            try:
                if activated is not None:
                    _tell(await call.initial_metadata(), activated)
                async for answer in call:
                    begun = True
                    yield self._result(method, answer)
                return
            except self._lib.aio.AioRpcError as e:
                token = None if begun else await self._other(e, token)
                if token is None:
                    raise agent_failure(self._agent, e) from e
            finally:
                call.cancel()

    async def _token(self) -> Header | None:
        return None if self._tokens is None else await self._tokens.credentials()

    async def _other(self, error: Any, refused: Header | None) -> Header | None:
        """Another token where the agent refused this one; None if that is not what went wrong."""
        if self._tokens is None or error.code() is not self._lib.StatusCode.UNAUTHENTICATED:
            return None
        return await self._tokens.credentials(refused)

    # --- the connection ----------------------------------------------------------------------

    async def _connected(self) -> Any:
        """A connection to the address as it was checked now; it is made with the first call."""
        at = None
        if self._allow is not None:
            at = await elsewhere_at(self._agent, self.interface.url, self._allow)
        if at not in self._open:
            self._open[at] = self._opened(at)
        return self._open[at]

    def _opened(self, at: str | None) -> Any:
        parts = urlsplit(self.interface.url)
        host = parts.hostname or ""
        authority, target = parts.netloc, f"dns:///{parts.netloc}"
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self._limit),
            ("grpc.max_send_message_length", -1),
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

    async def aclose(self) -> None:
        opened, self._open = self._open, {}
        for channel in opened.values():
            await channel.close()

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
