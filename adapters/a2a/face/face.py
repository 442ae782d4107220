"""The doors of A2A: ``/a2a/{agent}`` for every agent, and the gateway's own agent at the bare address."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import msgspec

from ....gateway.errors import GatewayError, UnknownAgent
from ....gateway.http.request import Request
from ....gateway.ports import Engine, Handler
from ..problems import NO_METHOD, Problem, http_error, problem_of
from ..wire import CARD_PATH, JWKS_PATH, OLD_CARD_PATH, V03, V10
from .binding import Streams
from .cards import Cards
from .heads import Said, said
from .jsonrpc import JsonRpc, failure
from .operations import Operations
from .push import Push
from .rest import Rest, is_ours
from .signer import Signer


class A2AFace:
    """Implements ``ports.Face``."""

    def __init__(self, engine: Engine) -> None:
        self._streams = Streams(engine.timers)
        signer = Signer(engine)
        self._push = Push(engine)
        operations = Operations(engine, signer, self._push)
        self._cards = Cards(engine, signer)
        self._rpc = JsonRpc(engine, operations, self._streams)
        self._rest = Rest(engine, operations, self._streams)

    def mounts(self) -> Sequence[tuple[str, Handler]]:
        return [("/a2a", self._mounted)]

    def claims(self, request: Request, envelope: Mapping[str, Any] | None) -> bool:
        """POSTs to the bare address that no other protocol took, the card, and the REST paths."""
        path = request.path
        if path == "/":
            return request.method == "POST"
        return path in (CARD_PATH, OLD_CARD_PATH, JWKS_PATH) or is_ours(path)

    def public(self, request: Request) -> bool:
        """The gateway's own card, which says how to come in, and the key that cards are signed with."""
        read = request.method in ("GET", "HEAD")
        return read and request.door == "root" and request.path in (CARD_PATH, OLD_CARD_PATH, JWKS_PATH)

    async def root(self, request: Request) -> None:
        await self._mounted(request)

    def home(self, request: Request, body: bytes) -> str | None:
        path = said(request).path
        if path in (CARD_PATH, OLD_CARD_PATH, JWKS_PATH):
            return None
        if path in ("", "/"):
            return self._rpc.home(body)
        return self._rest.home(request, path, body)

    def start(self) -> None:
        self._push.start()

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        path = request.rest
        if request.door != "root":
            _, slash, tail = path.removeprefix("/").partition("/")
            path = slash + tail
        if request.method == "POST" and path in ("", "/"):
            return failure(b"null", problem_of(error), V10)
        version = V03 if path.startswith("/v1/") else V10
        return msgspec.json.encode(http_error(problem_of(error), version)[1])

    def drain(self) -> None:
        """Every stream here is a call's: nothing ends early."""

    def cut(self) -> None:
        self._streams.close()

    async def aclose(self) -> None:
        self._streams.close()
        await self._push.aclose()

    def _mounted(self, request: Request) -> Awaitable[None]:
        head = said(request)
        if request.method == "POST" and head.path in ("", "/"):
            return self._rpc.serve(request, head)
        return self._serve(request, head)

    async def _serve(self, request: Request, head: Said) -> None:
        agent, path = head.agent, head.path
        if path in (CARD_PATH, OLD_CARD_PATH) and request.method in ("GET", "HEAD"):
            try:
                await self._cards.serve(request, agent, path)
            except UnknownAgent as error:
                status, body = http_error(problem_of(error), V10)
                await request.json(status, body)
        elif path == JWKS_PATH and request.method in ("GET", "HEAD"):
            await self._cards.keys(request)
        elif path not in ("", "/"):
            await self._rest.serve(request, head)
        else:
            status, body = http_error(Problem(NO_METHOD, "POST JSON-RPC here"), V10)
            await request.json(405 if agent else status, body, headers=[(b"allow", b"POST")])
