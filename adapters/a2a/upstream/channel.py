"""One interface of an agent on the wire: operations over JSON-RPC and HTTP+JSON, both revisions.

Parameters and results are in the form of JSON-RPC of the interface's revision, whichever binding carries
them; in 1.0 both bindings have one form, so bytes are handed on as they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

import msgspec

from ....gateway import sse
from ....gateway.alike import AlikeEvents
from ....gateway.documents import opening
from ....gateway.errors import BadUpstream, GatewayError, UpstreamFailed
from ....gateway.h1_request import Fixed
from ....gateway.mentions import mentions
from ....gateway.readable import UNREADABLE, must_be_text
from ....gateway.transport import Stream, Transport
from .. import rest03
from ..card import Interface
from ..codec import Malformed
from ..problems import agent_error, agent_http_error
from ..wire import NO_RESULT, V03, V10, Json, Op, RpcReply, method_name
from .discovery import elsewhere_at

Headers = Sequence[tuple[str, str]]
Credentials = Callable[[], Headers]
Params = Json | bytes
Activated = Callable[[str], None]
# Gets the pieces of a large answer from its result on, and what must follow that; False: it took none.
OnLarge = Callable[[AsyncGenerator[bytes], bytes], Awaitable[bool]]
HELD = 1024 * 1024  # bytes of an answer that is read as a whole where its length is known


class Taker(NamedTuple):
    """Of results that come while the reader of a stream waits for them: see ``sse.taker``. What ``read`` is
    given may be no JSON. ``find`` and ``more``: see ``AlikeEvents``."""

    read: Callable[[bytes], Any]
    give: Callable[[list[Any]], bool]
    find: Callable[[bytes], tuple[msgspec.Raw, Any]] | None = None
    more: Callable[[str, Any], bool] = lambda text, rest: False


_skipped = msgspec.json.Decoder(msgspec.Raw)
_reply = msgspec.json.Decoder(RpcReply)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_EXTENSIONS = frozenset({"a2a-extensions", "x-a2a-extensions"})  # the second is 0.3's
_RESULT = b'{"jsonrpc":"2.0","id":%d,"result":'
_CALL = b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":%b}'


class Way(Protocol):
    """How an agent is reached: an interface ready for calls."""

    interface: Interface

    async def call(
        self,
        op: Op,
        params: Params,
        headers: Headers = (),
        activated: Activated | None = None,
        on_large: OnLarge | None = None,
    ) -> msgspec.Raw:
        """A unary operation's result. ``activated`` is told the extensions that the agent says it used. One
        that ``on_large`` has taken is empty. Raises GatewayError: the agent's own, or what kept it from
        coming."""
        ...

    def stream(
        self,
        op: Op,
        params: Params,
        headers: Headers = (),
        activated: Activated | None = None,
        taker: Taker | None = None,
    ) -> AsyncGenerator[msgspec.Raw]:
        """A streaming operation's results as they come. Closing it does not stop the agent's task. ``taker``
        may be offered what comes while the reader waits."""
        ...

    async def reach(self) -> None:
        """Find out whether the agent can be reached, where its card is no sign of it. Raises Unreachable."""
        ...


class Channel:
    """``Way`` over HTTP. ``credentials``: what goes with every call, where credentials may; asked for each
    time, and the very same object as long as it has not changed.
    ``allow``: for an interface off the registered origin the networks of ``outbound.allow``; its address is
    checked at every use, and connected to as it was checked. None: it is the registered one. ``limit``: bytes
    of one event."""

    def __init__(
        self,
        agent: str,
        interface: Interface,
        transport: Transport,
        credentials: Credentials,
        allow: Sequence[str] | None = None,
        limit: int = sse.LIMIT,
    ) -> None:
        self.interface = interface
        self._agent = agent
        self._limit = limit
        self._transport = transport
        self._credentials = credentials
        self._known: Headers | None = None  # the credentials in the two that follow
        self._unary = self._streaming = Fixed(())
        self._ids = count(1)
        self._rpc = interface.binding == "JSONRPC"
        self._base = interface.url.rstrip("/")
        self._allow = allow

    def _headers(self, more: Headers, *, streaming: bool) -> list[tuple[str, str] | Fixed]:
        """Those of every call, with the credentials as they are now, and ``more``."""
        known = self._credentials()
        if known is not self._known:
            own = [*known, ("content-type", "application/json"), ("a2a-version", self.interface.version)]
            self._unary = Fixed([*own, ("accept", "application/json")])
            self._streaming = Fixed([*own, ("accept", "text/event-stream")])
            self._known = known
        return [self._streaming if streaming else self._unary, *more]

    async def call(
        self,
        op: Op,
        params: Params,
        headers: Headers = (),
        activated: Activated | None = None,
        on_large: OnLarge | None = None,
    ) -> msgspec.Raw:
        """See ``Way``."""
        id = next(self._ids)
        method, url, body = self._request(op, params, id)
        at = None if self._allow is None else await self._address(self._allow)
        sent = self._headers(headers, streaming=False)
        answer = await self._transport.opened(method, url, headers=sent, body=body, address=at)
        try:
            if activated is not None:
                _tell(answer, activated)
            said = answer.whole()
            if said is None:
                if on_large is not None and await self._passes(answer, id, on_large):
                    return msgspec.Raw()
                said = await answer.read()
        finally:
            answer.close()
        if self._rpc:
            return self._rpc_result(answer.status, said, id)
        if answer.status >= 400:
            raise agent_http_error(self._agent, answer.status, said)
        return self._rest_result(op, said)

    async def _passes(self, answer: Stream, id: int, on_large: OnLarge) -> bool:
        """Whether ``on_large`` has taken the answer to the request ``id``, which has not come as a whole."""
        length = answer.header("content-length") or ""
        if answer.complete or answer.status >= 300 or (length.isdecimal() and int(length) <= HELD):
            return False
        begun = await answer.beginning()
        start = None if begun is None else self._result_start(begun, id)
        if start is None:
            return False
        async with aclosing(_from(answer, start)) as pieces:
            return await on_large(pieces, b"}" if self._rpc else b"")

    async def stream(
        self,
        op: Op,
        params: Params,
        headers: Headers = (),
        activated: Activated | None = None,
        taker: Taker | None = None,
    ) -> AsyncGenerator[msgspec.Raw]:
        """See ``Way``."""
        id = next(self._ids)
        method, url, body = self._request(op, params, id)
        sent = self._headers(headers, streaming=True)
        at = None if self._allow is None else await self._address(self._allow)
        async with self._transport.stream(method, url, headers=sent, body=body, address=at) as answer:
            if activated is not None:
                _tell(answer, activated)
            if answer.status != 405 or op is not Op.SUBSCRIBE or self._rpc:
                async for result in self._results(op, answer, id, taker):
                    try:
                        yield result
                    except GeneratorExit:  # what the caller wanted has come; the end may be on its way
                        answer.settle()
                        raise
                return
        # Which of POST and GET subscribes over REST has changed; who refuses one takes the other.
        async with self._transport.stream("GET", url, headers=sent, address=at) as answer:
            async for result in self._results(op, answer, id, taker):
                yield result

    async def reach(self) -> None:
        """Its card came the same way."""

    async def _results(
        self, op: Op, answer: Stream, id: int, taker: Taker | None
    ) -> AsyncGenerator[msgspec.Raw]:
        rpc = self._rpc
        if not (answer.header("content-type") or "").startswith("text/event-stream"):
            body = await answer.read()
            if rpc:
                yield self._rpc_result(answer.status, body, id)
            elif answer.status >= 400:
                raise agent_http_error(self._agent, answer.status, body)
            else:
                yield self._rest_result(op, body)
            return
        decoder = sse.Decoder(self._limit)
        if taker is not None and self.interface.version == V10:
            take = sse.taker(decoder, self._reading(taker.read, id), taker.give)
            if taker.find is not None:
                take = AlikeEvents(decoder, self._reading(taker.find, id), taker.more, take).take
            answer.offer(take)
        async for chunk in answer.chunks():
            try:
                events = decoder.feed(chunk)
            except ValueError as e:
                raise BadUpstream(f"an event of {self._agent} is too large") from e
            for event in events:
                if rpc:
                    yield self._rpc_result(200, event.data, id)
                elif event.event == "error":
                    raise self._stream_error(event.data)
                else:
                    yield self._rest_result(op, event.data)

    def _result_start(self, begun: bytes, id: int) -> int | None:
        """Where in a unary answer the result begins that passes in pieces: an object, which comes after all
        else that is to be seen. None: it does not."""
        if not self._rpc:
            start = len(begun) - len(begun.lstrip())
            return start if self.interface.version == V10 and begun[start : start + 1] == b"{" else None
        found = opening(begun, b"result")
        if found is None or found[0].get(b"id") != b"%d" % id or b"jsonrpc" not in found[0]:
            return None
        return found[1]

    def _reading(self, read: Callable[[bytes], Any], id: int) -> Callable[[bytes], Any]:
        """What ``read`` makes of the result in an event's data. Raises ValueError for anything else."""
        if not self._rpc:
            return read
        head = _RESULT % id
        start = len(head)

        def result_read(data: bytes) -> Any:
            if data.startswith(head) and data.endswith(b"}"):
                return read(data[start:-1])
            return read(self._result_in(data, id))

        return result_read

    def _result_in(self, data: bytes, id: int) -> bytes:
        """Raises ValueError for anything else than a result."""
        reply = _reply.decode(data)
        if reply.error is not None or reply.id not in (id, None, str(id)) or reply.result is NO_RESULT:
            raise ValueError("no result")
        return bytes(reply.result)

    # --- out ---------------------------------------------------------------------------------

    async def _address(self, allow: Sequence[str]) -> str:
        return await elsewhere_at(self._agent, self.interface.url, allow)

    def _request(self, op: Op, params: Params, id: int) -> tuple[str, str, bytes | None]:
        """Method, URL and body. ``id``: of the request, over JSON-RPC."""
        params = self._addressed(params)
        if self._rpc:
            raw = params if isinstance(params, bytes) else _encode(params)
            name = method_name(op, self.interface.version)
            return "POST", self.interface.url, _CALL % (id, name, raw or b"{}")
        method, path, query, body = self._rest(op, params)
        url = self._base + path + (f"?{urlencode(query)}" if query else "")
        return method, url, body

    def _addressed(self, params: Params) -> Params:
        """With the tenant that the agent's interface names (section 4.4.6), or none: a client's is no word of
        that interface, and would lead into another tenant of the agent's."""
        tenant = self.interface.tenant
        if not isinstance(params, bytes):
            fields = {key: value for key, value in params.items() if key != "tenant"}
            return {**fields, "tenant": tenant} if tenant else fields
        if not tenant and not mentions(params, b'"tenant"'):
            return params
        try:
            members = _members.decode(params or b"{}")
        except UNREADABLE as e:
            raise BadUpstream("parameters are not JSON") from e
        members.pop("tenant", None)
        return _encode({**members, "tenant": tenant} if tenant else members)

    def _rest(self, op: Op, params: Params) -> tuple[str, str, dict[str, Any], bytes | None]:
        old = self.interface.version == V03
        prefix = "/v1" if old else f"/{quote(self.interface.tenant)}" if self.interface.tenant else ""
        if op in (Op.SEND, Op.STREAM):
            path = f"{prefix}/message:{'send' if op is Op.SEND else 'stream'}"
            if old:
                return "POST", path, {}, _encode(rest03.nested(rest03.send_params_to(mapping(params))))
            return "POST", path, {}, params if isinstance(params, bytes) else _encode(params)
        fields = {k: x for k, x in mapping(params).items() if k != "tenant"}
        if op is Op.CARD:
            return "GET", f"{prefix}/card" if old else f"{prefix}/extendedAgentCard", {}, None
        if op is Op.LIST:
            return "GET", f"{prefix}/tasks", _query(fields), None
        task = f"{prefix}/tasks/{quote(str(fields.pop('id', '')), safe='')}"
        match op:
            case Op.GET:
                fields.pop("metadata", None)
                return "GET", task, _query(fields), None
            case Op.CANCEL:
                return "POST", f"{task}:cancel", {}, _encode(fields)
            case Op.SUBSCRIBE:
                return "POST", f"{task}:subscribe", {}, None
            case _:
                raise BadUpstream(f"{op.value} is not sent to agents")

    # --- in ----------------------------------------------------------------------------------

    def _rpc_result(self, status: int, body: bytes, id: int) -> msgspec.Raw:
        try:
            if not body.isascii():
                must_be_text(body)
            reply = _reply.decode(body)
        except UNREADABLE:
            if status >= 400:
                raise agent_http_error(self._agent, status, body) from None
            raise self._invalid(body) from None
        if reply.error is not None:
            raise agent_error(self._agent, reply.error)
        if reply.id != id and reply.id is not None and reply.id != str(id):
            raise BadUpstream(f"{self._agent} answered another request than it was asked")
        if reply.result is NO_RESULT:
            raise agent_http_error(self._agent, status, body) if status >= 400 else self._invalid(body)
        return reply.result

    def _rest_result(self, op: Op, body: bytes) -> msgspec.Raw:
        try:
            must_be_text(body)
            if self.interface.version == V10 or op is Op.CARD:
                _skipped.decode(body)
                return msgspec.Raw(body)
            value = rest03.unnested(msgspec.json.decode(body))
            read = rest03.task_from if op in (Op.GET, Op.CANCEL) else rest03.item_from
            return msgspec.Raw(_encode(read(value)))
        except (*UNREADABLE, Malformed) as e:
            raise self._invalid(body) from e

    def _stream_error(self, data: bytes) -> GatewayError:
        error = agent_http_error(self._agent, 400, data)
        return UpstreamFailed(self._agent, detail=error.detail) if isinstance(error, BadUpstream) else error

    def _invalid(self, body: bytes) -> BadUpstream:
        return BadUpstream(f"{self._agent} gave an answer that is not A2A", detail=repr(body[:2000]))


async def _from(answer: Stream, start: int) -> AsyncGenerator[bytes]:
    async for chunk in answer.chunks():
        yield chunk[start:]
        start = 0


def _tell(answer: Stream, activated: Activated) -> None:
    for name, value in answer.headers:
        if name in _EXTENSIONS and (used := value.strip()):
            activated(used)
            return


def mapping(params: Params) -> Json:
    """Parameters as an object."""
    if not isinstance(params, bytes):
        return params
    try:
        value: Any = msgspec.json.decode(params) if params else {}
    except UNREADABLE as e:
        raise BadUpstream("parameters are not JSON") from e
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _query(fields: Json) -> dict[str, Any]:
    """Query parameters (section 11.5): booleans in lower case, the rest as text."""
    return {k: str(x).lower() if isinstance(x, bool) else x for k, x in fields.items() if x is not None}
