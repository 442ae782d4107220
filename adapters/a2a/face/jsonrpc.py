"""The JSON-RPC binding, for clients: 1.0 and 0.3 at one URL (specification 1.0.1, section 9)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from ....gateway import sse
from ....gateway.errors import GatewayError
from ....gateway.http.request import ClientGone, Request
from ....gateway.mentions import mentions
from ....gateway.ports import Engine
from ....gateway.readable import UNREADABLE, must_be_text
from ..problems import CONTENT_TYPE, INVALID_REQUEST, NO_METHOD, PARSE, Problem, problem_of, rpc_error
from ..wire import METHODS, STREAMS, V10, Op, Version
from . import named
from .binding import Streams, must_agree, stream
from .call import Call
from .heads import Said
from .operations import Operations

_encode = msgspec.json.Encoder().encode
_NULL = b"null"
_HEAD, _RESULT = b'{"jsonrpc":"2.0","id":', b',"result":'


class _Envelope(msgspec.Struct):
    jsonrpc: Any = None
    id: msgspec.Raw = msgspec.Raw(_NULL)
    method: Any = None
    params: msgspec.Raw = msgspec.Raw()


_envelope = msgspec.json.Decoder(_Envelope)


class JsonRpc:
    """Serves POSTs to an agent's URL."""

    def __init__(self, engine: Engine, operations: Operations, streams: Streams) -> None:
        self._engine = engine
        self._operations = operations
        self._streams = streams

    def home(self, body: bytes) -> str | None:
        """See ``ports.Face``."""
        if not mentions(body, b"contextId", b"ask"):  # a task's id, or a method about tasks
            return None
        try:
            envelope, rpc_id = _read(body)
            op, version = _method(envelope, rpc_id)
        except (Problem, GatewayError):
            return None
        return named.state(op, envelope.params, version)

    async def serve(self, request: Request, head: Said) -> None:
        rpc_id, version = _NULL, V10
        try:
            if not head.is_json:
                raise Problem(CONTENT_TYPE, "the request's content type must be application/json")
            envelope, rpc_id = _read(request.at_hand() or await request.body())
            op, version = _method(envelope, rpc_id)
            if head.version != version:
                must_agree(head, version)
            with Call(self._engine, op, version, head, envelope.params, request) as call:
                if op in STREAMS:
                    del envelope  # it holds all of the request
                    writing = _Writing(rpc_id, version)
                    await stream(request, call, self._operations.stream, self._streams, writing)
                else:
                    call.pass_on = partial(_pass_on, request, call, rpc_id)
                    result = await self._operations.unary(call)
                    if request.responded:
                        return
                    answer = b"".join((_HEAD, rpc_id, _RESULT, result, b"}"))
                    await request.respond(200, answer, headers=call.answered)
        except ClientGone:
            return
        except Problem as problem:
            if not request.responded:
                await request.respond(200, failure(rpc_id, problem, version))
        except GatewayError as error:
            await request.respond(200, failure(rpc_id, problem_of(error), version))


class _Writing:
    """Results as JSON-RPC responses to one request."""

    __slots__ = ("_head", "_id", "_version")

    def __init__(self, rpc_id: bytes, version: Version) -> None:
        self._head = _HEAD + rpc_id + _RESULT
        self._id = rpc_id
        self._version: Version = version

    def result(self, result: bytes) -> bytes:
        return sse.encode(b"".join((self._head, result, b"}")))

    def failure(self, problem: Problem) -> bytes:
        return sse.encode(failure(self._id, problem, self._version))


async def _pass_on(request: Request, call: Call, rpc_id: bytes, pieces: AsyncIterator[bytes]) -> None:
    """``Call.pass_on``."""
    async with aclosing(_enveloped(rpc_id, pieces)) as enveloped:
        await request.pieces(enveloped, headers=call.answered)


async def _enveloped(rpc_id: bytes, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield _HEAD + rpc_id + _RESULT + await anext(pieces)
    async for piece in pieces:
        yield piece
    yield b"}"


def _read(body: bytes) -> tuple[_Envelope, bytes]:
    """The envelope and its id as it came. Raises Problem."""
    try:
        if not body.isascii():
            must_be_text(body)
        envelope = _envelope.decode(body)
    except msgspec.ValidationError:
        raise Problem(INVALID_REQUEST, "the request must be one JSON-RPC 2.0 object") from None
    except UNREADABLE:
        raise Problem(PARSE, "the request is not valid JSON") from None
    return envelope, bytes(envelope.id)


def _method(envelope: _Envelope, rpc_id: bytes) -> tuple[Op, Version]:
    if envelope.jsonrpc != "2.0" or not isinstance(envelope.method, str) or rpc_id[0] in b"{[tf":
        raise Problem(INVALID_REQUEST, "the request must be one JSON-RPC 2.0 object")
    found = METHODS.get(envelope.method)
    if found is None:
        raise Problem(NO_METHOD, f"there is no method {envelope.method[:80]!r}")
    return found


def failure(rpc_id: bytes, problem: Problem, version: Version) -> bytes:
    """The error response to the request with this id (as it came)."""
    known = rpc_id if rpc_id[0] not in b"{[tf" else _NULL
    error = _encode(rpc_error(problem, version))
    return b'{"jsonrpc":"2.0","id":' + known + b',"error":' + error + b"}"
