"""The gRPC port: ``A2AService`` for all agents (specification 1.0.1, section 10)."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ....gateway.config import Config
from ....gateway.errors import ConfigError
from ....gateway.ports import ASGI
from ..codec import Malformed
from ..problems import INVALID_AGENT, INVALID_PARAMS, Problem, rpc_error
from ..schema import Method, schema
from ..wire import V10
from .bridge import EXTENSIONS, Bridge, Refused
from .optional import grpc
from .proto import SERVICE, decode, encode
from .status import DETAILS, Failure, failure

log = logging.getLogger("agentgw.a2a")

GRACE = 1.0  # seconds for calls under way when the port closes: what may finish has finished by then


class GrpcListener:
    """Implements ``ports.Listener``."""

    def __init__(self, app: ASGI, config: Config, host: str) -> None:
        self._config = config
        self._bridge = Bridge(app, host)
        self._server: Any = None

    async def start(self) -> None:
        """Serve on ``server.grpc_port``. Raises ConfigError when that can't be."""
        lib, server = grpc(), self._config.server
        made = lib.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._config.limits.body),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(server.workers > 1)),
            ]
        )
        handlers = {method.name: self._handler(lib, method) for method in schema().methods}
        made.add_generic_rpc_handlers((lib.method_handlers_generic_handler(SERVICE, handlers),))
        host = f"[{server.host}]" if ":" in server.host else server.host
        where = f"{host}:{server.grpc_port}"
        try:
            if not made.add_insecure_port(where):
                raise RuntimeError(where)
        except RuntimeError:
            raise ConfigError(f"can't listen for gRPC on {where}; choose another with --grpc-port") from None
        await made.start()
        self._server = made

    def _handler(self, lib: Any, method: Method) -> Any:
        if method.streams:

            async def stream(data: bytes, context: Any) -> AsyncGenerator[bytes]:
                async with aclosing(self._results(method, data, context)) as results:
                    async for result in results:
                        yield result

            return lib.unary_stream_rpc_method_handler(stream)

        async def unary(data: bytes, context: Any) -> bytes:
            async with aclosing(self._results(method, data, context)) as results:
                return await anext(results)

        return lib.unary_unary_rpc_method_handler(unary)

    async def _results(self, method: Method, data: bytes, context: Any) -> AsyncGenerator[bytes]:
        """The serialized results. Whatever goes wrong ends the call with its status."""
        try:
            params, metadata = decode(method.request, data), context.invocation_metadata() or ()
            told = _Told(context)
            call = self._bridge.call(method.name, params, metadata, context.peer(), told)
            async with aclosing(call) as results:
                async for result in results:
                    yield _written(method, result or {})
        except Refused as e:
            await _abort(context, failure(e.http, e.error))
        except Malformed as e:
            problem = Problem(INVALID_PARAMS, f"invalid parameters: {e}")
            await _abort(context, failure(200, rpc_error(problem, V10)))

    async def aclose(self) -> None:
        if self._server is not None:
            await self._server.stop(GRACE)
        await self._bridge.aclose(GRACE)


class _Told:
    """Tells the client, once, which extensions are used (section 10.2: as metadata)."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._done = False

    async def __call__(self, extensions: str) -> None:
        if not self._done:
            self._done = True
            await self._context.send_initial_metadata(((EXTENSIONS, extensions),))


def _written(method: Method, result: Any) -> bytes:
    """A result in protobuf's form. Raises Refused for one that has none: relays pass on what agents say."""
    try:
        return encode(method.answer, result)
    except Malformed as e:
        log.debug("an answer is not A2A: %s", e)
        raise Refused(200, rpc_error(Problem(INVALID_AGENT, "the agent's answer is not A2A"), V10)) from e


async def _abort(context: Any, failed: Failure) -> None:
    """End the call (raises)."""
    code = getattr(grpc().StatusCode, failed.code)
    await context.abort(code, failed.message, ((DETAILS, failed.status),))
