"""The HTTP+JSON binding, for clients: 1.0, and 0.3 under ``/v1`` (specification 1.0.1, section 11)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

from ....gateway import sse
from ....gateway.errors import GatewayError
from ....gateway.http.request import JSON, ClientGone, Request
from ....gateway.http.wire import retry_after
from ....gateway.ports import Engine
from ....gateway.readable import UNREADABLE
from .. import rest03
from ..codec import Malformed
from ..params import WHOLE
from ..problems import INVALID_PARAMS, NO_METHOD, PARSE, Problem, http_error, problem_of
from ..pushconfig import rest_params, to_rest03
from ..wire import PUSH, STREAMS, V03, V10, Op, Version
from . import named
from .binding import Streams, must_agree, stream
from .call import Call
from .heads import Said
from .operations import Operations

_encode = msgspec.json.Encoder().encode

_PUSH = r"/tasks/(?P<id>[^/]+)/pushNotificationConfigs"
_ROUTES: tuple[tuple[str, str, Op], ...] = (
    ("POST", r"/message:send", Op.SEND),
    ("POST", r"/message:stream", Op.STREAM),
    ("GET", r"/tasks", Op.LIST),
    ("POST", r"/tasks/(?P<id>[^/]+):cancel", Op.CANCEL),
    ("GET POST", r"/tasks/(?P<id>[^/]+):subscribe", Op.SUBSCRIBE),
    ("GET", r"/tasks/(?P<id>[^/]+)", Op.GET),
    ("POST", _PUSH, Op.PUSH_CREATE),
    ("GET", _PUSH, Op.PUSH_LIST),
    ("GET", _PUSH + r"/(?P<config>[^/]+)", Op.PUSH_GET),
    ("DELETE", _PUSH + r"/(?P<config>[^/]+)", Op.PUSH_DELETE),
    ("GET", r"/extendedAgentCard|/card", Op.CARD),
)
_COMPILED = [(methods.split(), re.compile(path), op) for methods, path, op in _ROUTES]
_OURS = re.compile(r"(/v1)?/(message:(send|stream)|tasks(/.*)?|extendedAgentCard|card)")


def is_ours(path: str) -> bool:
    """Whether a path at the bare address belongs to this binding."""
    return path != "/card" and _OURS.fullmatch(path) is not None


class Rest:
    """Serves paths beneath an agent's URL."""

    def __init__(self, engine: Engine, operations: Operations, streams: Streams) -> None:
        self._engine = engine
        self._operations = operations
        self._streams = streams

    async def serve(self, request: Request, head: Said) -> None:
        path = head.path
        version = V03 if path.startswith("/v1/") else V10
        try:
            await self._serve(request, head, path.removeprefix("/v1"), version)
        except Problem as problem:
            await _fail(request, problem, version)
        except GatewayError as error:
            await _fail(request, problem_of(error), version)

    def home(self, request: Request, path: str, body: bytes) -> str | None:
        """See ``ports.Face``."""
        version = V03 if path.startswith("/v1/") else V10
        try:
            op, ids = _route(request.method, path.removeprefix("/v1"))
        except Problem:
            return None
        sent = body and op in (Op.SEND, Op.STREAM)
        return ids.get("id") or (named.state(op, body, version) if sent else None)

    async def _serve(self, request: Request, head: Said, path: str, version: Version) -> None:
        op, ids = _route(request.method, path)
        must_agree(head, version)
        params = await _params(request, op, ids, version)
        form = _Form(request, op, version)
        try:
            with Call(self._engine, op, version, head, params, request) as call:
                if op in STREAMS:
                    del params  # it holds all of the request
                    await stream(request, call, self._operations.stream, self._streams, form)
                else:
                    if not form.changes:
                        call.pass_on = partial(_pass_on, request, call)
                    result = await self._operations.unary(call)
                    if request.responded:
                        return
                    body = form.unary(result)
                    await request.respond(200, body, media_type=call.media_type, headers=call.answered)
        except ClientGone:
            return
        except Problem:
            if not request.responded:
                raise


def _route(method: str, path: str) -> tuple[Op, dict[str, str]]:
    """The operation, and the ids in the path (``id``: the task's, ``config``: a configuration's). Raises
    Problem."""
    for methods, pattern, op in _COMPILED:
        match = pattern.fullmatch(path)
        if match and method in methods:
            return op, match.groupdict()
    raise Problem(NO_METHOD, f"there is no {method} {path[:100]}")


async def _params(request: Request, op: Op, ids: dict[str, str], version: Version) -> msgspec.Raw:
    """The parameters in JSON-RPC's form of the revision; a message of 1.0 as it came."""
    if op in (Op.SEND, Op.STREAM):
        body = await request.body()
        value = _object(body)
        if version == V10:
            return msgspec.Raw(body)
        try:
            if _is_python(request):
                value = rest03.unnested(value)
            return msgspec.Raw(_encode(rest03.send_params_from(value)))
        except (Malformed, AttributeError, TypeError) as e:
            raise Problem(INVALID_PARAMS, f"invalid parameters: {e}") from e
    fields: dict[str, Any] = {k: x for k, x in request.query.items() if k != "A2A-Version"}
    body = await request.body() if request.method == "POST" else b""
    if body.strip():
        fields |= _object(body)
    if op in PUSH:
        return msgspec.Raw(_encode(rest_params(op, fields, ids, version)))
    fields |= ids
    if WHOLE.fullmatch(str(fields.get("historyLength", ""))):
        fields["historyLength"] = int(fields["historyLength"])
    return msgspec.Raw(_encode(fields))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value: Any = msgspec.json.decode(body)
    except UNREADABLE:
        raise Problem(PARSE, "the request's body is not valid JSON") from None
    if not isinstance(value, dict):
        raise Problem(INVALID_PARAMS, "the request's body must be a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


async def _pass_on(request: Request, call: Call, pieces: AsyncIterator[bytes]) -> None:
    """``Call.pass_on``."""
    await request.pieces(pieces, media_type=call.media_type, headers=call.answered)


class _Form:
    """Results in the form of this binding: 1.0's as they are, 0.3's after its protobuf definition."""

    def __init__(self, request: Request, op: Op, version: Version) -> None:
        self._version: Version = version
        self._old = version == V03 and op is not Op.CARD
        self._op = op
        self._nested = self._old and _is_python(request)

    @property
    def changes(self) -> bool:
        """Whether results are changed."""
        return self._old

    def unary(self, result: bytes) -> bytes:
        if not self._old:
            return b"{}" if self._op is Op.PUSH_DELETE else result
        value: Any = msgspec.json.decode(result)
        match self._op:
            case Op.SEND:
                made = rest03.item_to(value)
            case op if op in PUSH:
                made = to_rest03(value)
            case Op.LIST:
                made = {**value, "tasks": [rest03.task_to(t) for t in value["tasks"]]}
            case _:
                made = rest03.task_to(value)
        return _encode(rest03.nested(made) if self._nested else made)

    def result(self, result: bytes) -> bytes:
        if self._old:
            made = rest03.item_to(msgspec.json.decode(result))
            result = _encode(rest03.nested(made) if self._nested else made)
        return sse.encode(result)

    def failure(self, problem: Problem) -> bytes:
        return sse.encode(_encode(http_error(problem, self._version)[1]), event="error")


def _is_python(request: Request) -> bool:
    """The Python SDK nests base64 over this binding of 0.3; it can be told only by its HTTP client."""
    return (request.header(b"user-agent") or "").startswith("python-httpx")


async def _fail(request: Request, problem: Problem, version: Version) -> None:
    status, body = http_error(problem, version)
    await request.json(status, body, headers=retry_after(problem.data), media_type=JSON)
