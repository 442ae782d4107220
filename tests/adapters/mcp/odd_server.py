"""A foreign MCP server on the official SDK whose tools do what is hard on a client.

    python odd_server.py --port 9001 [--handshake]     # Streamable HTTP at /mcp
    python odd_server.py --transport stdio [--handshake]
    python odd_server.py --transport sse --port 9002   # the old HTTP+SSE at /sse

``--handshake`` refuses what servers from before 2026-07-28 do not know.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import mcp.types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

Context = ServerRequestContext[Any, Any]
bus = InMemorySubscriptionBus()
waiting = asyncio.Event()
begun = cancelled = 0


def ok(text: str, **fields: Any) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text=text)], **fields)


def modern(ctx: Context) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


async def say(ctx: Context, args: dict[str, Any]) -> Any:
    return ok(args["text"])


async def big(ctx: Context, args: dict[str, Any]) -> Any:
    return ok("x" * args["size"])


async def die(ctx: Context, args: dict[str, Any]) -> Any:
    print("secret on the way out", file=sys.stderr, flush=True)
    os._exit(3)


async def fail(ctx: Context, args: dict[str, Any]) -> Any:
    return ok("no such city", is_error=True)


async def crash(ctx: Context, args: dict[str, Any]) -> Any:
    raise MCPError(t.INTERNAL_ERROR, "Traceback: secret", {"path": "secret"})


async def refuse(ctx: Context, args: dict[str, Any]) -> Any:
    raise MCPError(t.INVALID_PARAMS, "the city is too far away", {"km": 900})


async def steps(ctx: Context, args: dict[str, Any]) -> Any:
    """Goes on only when it is told to, so that progress must have arrived before the end."""
    await ctx.session.report_progress(1, 2, "half")
    await waiting.wait()
    waiting.clear()
    return ok("whole")


async def go(ctx: Context, args: dict[str, Any]) -> Any:
    waiting.set()
    return ok("gone")


async def wait(ctx: Context, args: dict[str, Any]) -> Any:
    global begun, cancelled
    begun += 1
    await ctx.session.report_progress(0, 1, "waiting")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled += 1
        raise
    return ok("slept")


async def count_begun(ctx: Context, args: dict[str, Any]) -> Any:
    return ok(str(begun))


async def count_cancelled(ctx: Context, args: dict[str, Any]) -> Any:
    return ok(str(cancelled))


FORM: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


async def ask(ctx: Context, args: dict[str, Any], answers: dict[str, Any]) -> Any:
    if modern(ctx):
        answer = answers.get("where")
        if answer is None:
            params = t.ElicitRequestFormParams(message="Which city?", requested_schema=FORM)
            return t.InputRequiredResult(
                input_requests={"where": t.ElicitRequest(params=params)}, request_state="kept"
            )
    else:
        answer = await ctx.session.elicit_form("Which city?", FORM, related_request_id=ctx.request_id)
    return ok(f"{answer.action}: {(answer.content or {}).get('city')}")


async def ask_aside(ctx: Context, args: dict[str, Any]) -> Any:
    """Does not say which call the question belongs to."""
    answer = await ctx.session.elicit_form("Which city?", FORM)
    return ok(f"{answer.action}: {(getattr(answer, 'content', None) or {}).get('city')}")


async def ask_model(ctx: Context, args: dict[str, Any]) -> Any:
    message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text="hi"))
    answer = await ctx.session.create_message([message], max_tokens=5, related_request_id=ctx.request_id)
    return ok(f"the model says {json.dumps(answer.content.model_dump(exclude_none=True))}")  # type: ignore[union-attr]


async def change(ctx: Context, args: dict[str, Any]) -> Any:
    if modern(ctx):
        await bus.publish(ToolsListChanged())
    else:
        await ctx.session.send_tool_list_changed()
    return ok("changed")


async def hang_up(ctx: Context, args: dict[str, Any]) -> Any:
    """Ends the response's stream (where that is allowed) before it has answered."""
    if ctx.close_sse_stream is not None:
        for _ in range(100):  # the SDK may close the stream before its first event is out
            await asyncio.sleep(0)
        await ctx.close_sse_stream()
    await ctx.session.report_progress(1, 1, "after hanging up")
    return ok("here all the same")


async def region(ctx: Context, args: dict[str, Any]) -> Any:
    header = ctx.request.headers.get("mcp-param-region") if ctx.request is not None else None
    return ok(f"{args.get('region')} {header}")


async def whoami(ctx: Context, args: dict[str, Any]) -> Any:
    request = ctx.request
    headers = {} if request is None else {k: request.headers.get(k) for k in ("traceparent", "x-key")}
    asked = ctx.session.client_capabilities
    return ok(
        json.dumps(
            {
                "headers": headers,
                "meta": dict(ctx.meta or {}).get("traceparent"),
                "can": sorted(asked.model_dump(exclude_none=True)) if asked is not None else None,
                "pid": os.getpid(),
            }
        )
    )


PLAIN: dict[str, Any] = {"type": "object", "properties": {}}
SCHEMAS: dict[str, dict[str, Any]] = {
    "say": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "region": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
    "broken_header": {"type": "object", "properties": {"n": {"type": "number", "x-mcp-header": "N"}}},
}
HANDLERS = {
    fn.__name__: fn
    for fn in (
        say, big, die, fail, crash, refuse, steps, go, wait, count_begun, count_cancelled, ask, ask_aside,
        ask_model, change, hang_up, region, whoami,
    )
}  # fmt: skip
TOOLS = [
    t.Tool(name=name, description=f"does {name}", input_schema=SCHEMAS.get(name, PLAIN))
    for name in (*HANDLERS, "broken_header")
]
PAGE = 5


async def list_tools(ctx: Context, params: Any) -> t.ListToolsResult:
    start = int((params and params.cursor) or 0)
    end = start + PAGE
    return t.ListToolsResult(tools=TOOLS[start:end], next_cursor=str(end) if end < len(TOOLS) else None)


async def call_tool(ctx: Context, params: t.CallToolRequestParams) -> Any:
    handler: Any = HANDLERS.get(params.name)
    if handler is None:
        raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {params.name}")
    if handler is ask:
        if modern(ctx) and params.input_responses and params.request_state != "kept":
            raise MCPError(t.INVALID_PARAMS, "requestState was lost")
        return await ask(ctx, params.arguments or {}, params.input_responses or {})
    return await handler(ctx, params.arguments or {})


def build() -> Server[Any]:
    return Server(
        "odd",
        version="3.1",
        instructions="Does odd things",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_subscriptions_listen=ListenHandler(bus),
        get_tool_input_schema=lambda name: SCHEMAS.get(name, PLAIN),
    )


class Memory(EventStore):
    """Keeps every event, so that a stream can be taken up again."""

    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.log: dict[str, tuple[str, Any]] = {}

    async def store_event(self, stream_id: str, message: Any) -> str:
        event_id = str(next(self.ids))
        self.log[event_id] = (stream_id, message)
        return event_id

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        stream = self.log[last_event_id][0]
        for event_id, (owner, message) in list(self.log.items()):
            if owner == stream and int(event_id) > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, event_id))
        return stream


class OldStdin:
    """Stdin of a server that has never heard of ``server/discover``; ``out`` is its real stdout."""

    def __init__(self, out: Any, silent: bool) -> None:
        self.out = out
        self.silent = silent

    def __aiter__(self) -> AsyncIterator[str]:
        return self._lines()

    async def _lines(self) -> AsyncIterator[str]:
        print("this server prints a banner", file=self.out, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            message = json.loads(line)
            if message.get("method") != "server/discover":
                yield line
            elif not self.silent:
                error = {"code": -32602, "message": "Invalid request parameters", "data": ""}
                answer = {"jsonrpc": "2.0", "id": message["id"], "error": error}
                print(json.dumps(answer), file=self.out, flush=True)


async def run_stdio(server: Server[Any], handshake: bool, silent: bool) -> None:
    from mcp.server.stdio import stdio_server

    out = os.fdopen(os.dup(1), "w")  # the SDK keeps fd 1 for itself
    stdin: Any = OldStdin(out, silent) if handshake else None
    options = server.create_initialization_options(NotificationOptions(True, True, True))
    async with stdio_server(stdin) as (reader, writer):
        await server.run(reader, writer, options)


def old_sse(server: Server[Any]) -> Any:
    from mcp.server.sse import SseServerTransport
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Mount, Route

    sse = SseServerTransport("/messages/")
    options = server.create_initialization_options(NotificationOptions(True, True, True))

    async def handle(request: Any) -> Response:
        async with sse.connect_sse(request.scope, request.receive, request._send) as (reader, writer):
            await server.run(reader, writer, options)
        return Response()

    routes = [Route("/sse", endpoint=handle), Mount("/messages/", app=sse.handle_post_message)]
    return Starlette(routes=routes)


def before_2026(app: Any) -> Any:
    """Answers a revision it does not know as servers of old do."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        version = dict(scope.get("headers") or ()).get(b"mcp-protocol-version", b"").decode()
        if version not in MODERN_PROTOCOL_VERSIONS:
            await app(scope, receive, send)
            return
        head = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 400, "headers": head})
        await send({"type": "http.response.body", "body": b"Bad Request: Unsupported protocol version"})

    return wrapped


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--transport", choices=["http", "stdio", "sse"], default="http")
    options.add_argument("--port", type=int, default=9001)
    options.add_argument("--handshake", action="store_true")
    options.add_argument("--silent", action="store_true", help="handshake, stdio: ignore what is unknown")
    chosen = options.parse_args()
    server = build()
    if chosen.transport == "stdio":
        asyncio.run(run_stdio(server, chosen.handshake, chosen.silent))
        return
    import uvicorn

    if chosen.transport == "sse":
        app = old_sse(server)
    else:
        app = server.streamable_http_app(event_store=Memory(), retry_interval=10)
        app = before_2026(app) if chosen.handshake else app
    uvicorn.run(app, port=chosen.port, http="h11", log_level="warning")


if __name__ == "__main__":
    main()
