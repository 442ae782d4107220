"""A foreign server on the official SDK with one of everything that a relay could lose, in each era's own way.

python -m agentgw.tests.adapters.mcp.face.matrix_server ERA    # over stdio; ERA: handshake, modern, both
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import mcp.types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

Context = ServerRequestContext[Any, Any]
Asked = t.ElicitRequest | t.CreateMessageRequest | t.ListRootsRequest
STATE = "the server's own state"
WATCHED, TEXT, ASKING = "matrix://watched", "matrix://text", "matrix://asking"


def modern(ctx: Context) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def ok(text: str, **fields: Any) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text=text)], **fields)


# --- questions -----------------------------------------------------------------------------------


def form(field: str) -> t.ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}
    return t.ElicitRequest(
        params=t.ElicitRequestFormParams(message=f"Your {field}?", requested_schema=schema)
    )


LINK = t.ElicitRequest(
    params=t.ElicitRequestURLParams(message="Log in.", url="https://example.org/login", elicitation_id="e1")
)
SAMPLE = t.CreateMessageRequest(
    params=t.CreateMessageRequestParams(
        messages=[t.SamplingMessage(role="user", content=t.TextContent(type="text", text="hi"))], max_tokens=5
    )
)


async def put(ctx: Context, request: Asked) -> Any:
    """Ask in the handshake era's way: a request to the client on the call's stream."""
    session, related = ctx.session, ctx.request_id
    match request:
        case t.ElicitRequest(params=t.ElicitRequestURLParams() as p):
            return await session.elicit_url(p.message, p.url, p.elicitation_id, related)
        case t.ElicitRequest(params=t.ElicitRequestFormParams() as p):
            return await session.elicit_form(p.message, p.requested_schema, related)
        case t.CreateMessageRequest(params=p):
            return await session.create_message(p.messages, max_tokens=5, related_request_id=related)
        case _:
            return await session.list_roots()


async def answers(ctx: Context, params: Any, **asked: Asked) -> dict[str, Any] | t.InputRequiredResult:
    """The answers to all that is asked, in either era."""
    if not modern(ctx):
        said = await asyncio.gather(*(put(ctx, request) for request in asked.values()))
        return dict(zip(asked, said, strict=True))
    if params.input_responses and params.request_state != STATE:
        raise MCPError(t.INVALID_PARAMS, "requestState was lost")
    if asked.keys() <= (params.input_responses or {}).keys():
        return params.input_responses
    return t.InputRequiredResult(input_requests=dict(asked), request_state=STATE)


def words(answer: Any) -> str:
    match answer:
        case t.ElicitResult():
            return f"{answer.action} {json.dumps(answer.content)}"
        case t.ListRootsResult():
            return ", ".join(str(root.uri) for root in answer.roots)
        case _:
            return answer.content.text


async def asks(ctx: Context, params: Any, **asked: Asked) -> Any:
    said = await answers(ctx, params, **asked)
    if isinstance(said, t.InputRequiredResult):
        return said
    return ok("; ".join(f"{key}: {words(said[key])}" for key in asked))


# --- tools -----------------------------------------------------------------------------------------


async def name(ctx: Context, params: Any) -> Any:
    return await asks(ctx, params, name=form("name"))


async def link(ctx: Context, params: Any) -> Any:
    return await asks(ctx, params, link=LINK)


async def gate(ctx: Context, params: Any) -> Any:
    """Closed until the user has opened an address: in the handshake era an error says so."""
    if modern(ctx):
        return await asks(ctx, params, link=LINK)
    if not visited:
        visited.append(None)
        link = {
            "mode": "url",
            "message": "Log in.",
            "url": "https://example.org/login",
            "elicitationId": "e1",
        }
        raise MCPError(t.URL_ELICITATION_REQUIRED, "Log in first.", {"elicitations": [link]})
    visited.clear()
    return ok("link: accept null")


async def sample(ctx: Context, params: Any) -> Any:
    return await asks(ctx, params, model=SAMPLE)


async def roots(ctx: Context, params: Any) -> Any:
    return await asks(ctx, params, roots=t.ListRootsRequest())


async def several(ctx: Context, params: Any) -> Any:
    return await asks(ctx, params, name=form("name"), model=SAMPLE)


async def named(ctx: Context, params: Any) -> Any:
    """Several of these at once: each asks something of its own and must get its own answer."""
    field = params.arguments["field"]
    return await asks(ctx, params, **{field: form(field)})


async def talk(ctx: Context, params: Any) -> Any:
    for level in ("debug", "warning"):
        await ctx.session.send_log_message(level, f"a {level}", "matrix", related_request_id=ctx.request_id)
    return ok("talked")


async def work(ctx: Context, params: Any) -> Any:
    """Progress before a question and after it."""
    if not (modern(ctx) and params.input_responses):
        await ctx.session.report_progress(1, 2, "before")
    result = await asks(ctx, params, name=form("name"))
    if isinstance(result, t.CallToolResult):
        await ctx.session.report_progress(2, 2, "after")
    return result


async def stuck(ctx: Context, params: Any) -> Any:
    """Asks, then never ends by itself."""
    try:
        await asks(ctx, params, name=form("name"))
        await ctx.session.report_progress(1, 2, "stuck")
        await asyncio.Event().wait()
    finally:
        stopped.set()


async def meanwhile(ctx: Context, params: Any) -> Any:
    """Says something while its question is open, when it is told to."""
    asking = asyncio.create_task(asks(ctx, params, name=form("name")))
    await speak.wait()
    await ctx.session.report_progress(1, 2, "meanwhile")
    return await asking


async def go(ctx: Context, params: Any) -> Any:
    speak.set()
    return ok("gone")


async def change(ctx: Context, params: Any) -> Any:
    await bus.publish(ToolsListChanged())
    if not modern(ctx):
        await ctx.session.send_tool_list_changed()
    return ok("changed")


async def update(ctx: Context, params: Any) -> Any:
    await bus.publish(ResourceUpdated(uri=WATCHED))
    for session in watching:
        await session.send_resource_updated(WATCHED)
    return ok("updated")


async def can(ctx: Context, params: Any) -> Any:
    asked = ctx.session.client_capabilities
    return ok(json.dumps(asked.model_dump(by_alias=True, exclude_none=True) if asked else None))


async def told(ctx: Context, params: Any) -> Any:
    """How often the client said that its roots changed."""
    return ok(str(len(changed_roots)))


bus = InMemorySubscriptionBus()
watching: list[Any] = []
changed_roots: list[None] = []
visited: list[None] = []
levels: list[str] = []
stopped, speak = asyncio.Event(), asyncio.Event()
HANDLERS = {
    fn.__name__: fn
    for fn in (
        name, link, gate, sample, roots, several, named, talk, work, stuck, meanwhile, go, change, update,
        can, told,
    )
}  # fmt: skip
DEFS: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"place": {"$anchor": "place", "type": "object", "properties": {"city": {"type": "string"}}}},
    "properties": {"where": {"$ref": "#/$defs/place"}},
    "additionalProperties": True,
}
TOOLS = [t.Tool(name=tool, input_schema=DEFS, _meta={"example.org/kept": {"deep": [1]}}) for tool in HANDLERS]
PAGE = 5


def build() -> Server[Any]:
    hints: Any = {"resources/read": CacheHint(ttl_ms=5000, scope="public")}
    return Server(
        "matrix",
        version="1.0",
        title="Matrix",
        instructions="Everything once.",
        cache_hints=hints,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_completion=complete,
        on_set_logging_level=set_level,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=ListenHandler(bus),
        on_roots_list_changed=roots_changed,
    )


async def list_tools(ctx: Context, params: Any) -> t.ListToolsResult:
    start = int((params and params.cursor) or 0)
    end = start + PAGE
    return t.ListToolsResult(tools=TOOLS[start:end], next_cursor=str(end) if end < len(TOOLS) else None)


async def call_tool(ctx: Context, params: t.CallToolRequestParams) -> Any:
    return await HANDLERS[params.name](ctx, params)


async def list_prompts(ctx: Context, params: Any) -> t.ListPromptsResult:
    return t.ListPromptsResult(prompts=[t.Prompt(name="plain"), t.Prompt(name="asking")])


async def get_prompt(ctx: Context, params: t.GetPromptRequestParams) -> Any:
    text = "plain"
    if params.name == "asking":
        said = await answers(ctx, params, name=form("name"))
        if isinstance(said, t.InputRequiredResult):
            return said
        text = words(said["name"])
    content = t.TextContent(type="text", text=text)
    return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=content)])


async def list_resources(ctx: Context, params: Any) -> t.ListResourcesResult:
    uris = (TEXT, ASKING, WATCHED)
    return t.ListResourcesResult(resources=[t.Resource(uri=uri, name=uri[9:]) for uri in uris])


async def list_templates(ctx: Context, params: Any) -> t.ListResourceTemplatesResult:
    template = t.ResourceTemplate(uri_template="matrix://page/{n}", name="page")
    return t.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(ctx: Context, params: t.ReadResourceRequestParams) -> Any:
    uri, text = str(params.uri), "text"
    if uri == ASKING:
        said = await answers(ctx, params, name=form("name"))
        if isinstance(said, t.InputRequiredResult):
            return said
        text = words(said["name"])
    return t.ReadResourceResult(contents=[t.TextResourceContents(uri=uri, text=text)])


async def complete(ctx: Context, params: t.CompleteRequestParams) -> t.CompleteResult:
    values = [word for word in ("oslo", "osaka", "rome") if word.startswith(params.argument.value)]
    return t.CompleteResult(completion=t.Completion(values=values, total=len(values)))


async def set_level(ctx: Context, params: Any) -> t.EmptyResult:
    levels.append(params.level)
    return t.EmptyResult()


async def subscribe(ctx: Context, params: Any) -> t.EmptyResult:
    watching.append(ctx.session)
    return t.EmptyResult()


async def unsubscribe(ctx: Context, params: Any) -> t.EmptyResult:
    watching.clear()
    return t.EmptyResult()


async def roots_changed(ctx: Context, params: Any) -> None:
    changed_roots.append(None)


# --- one era only --------------------------------------------------------------------------------


def of_era(app: Any, era: str) -> Any:
    """The ASGI app of a server that knows no other era."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        version = dict(scope.get("headers") or ()).get(b"mcp-protocol-version", b"").decode()
        if (
            scope["type"] != "http"
            or era == "both"
            or (version in MODERN_PROTOCOL_VERSIONS) == (era == "modern")
        ):
            await app(scope, receive, send)
            return
        await send(
            {"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"text/plain")]}
        )
        await send({"type": "http.response.body", "body": b"Bad Request: Unsupported protocol version"})

    return wrapped


class Stdin:
    """Stdin of a server that refuses the other era's first request."""

    def __init__(self, out: Any, era: str) -> None:
        self.out = out
        self.refused = {"handshake": "server/discover", "modern": "initialize"}.get(era, "")

    async def __aiter__(self) -> AsyncIterator[str]:
        while line := await asyncio.to_thread(sys.stdin.readline):
            message = json.loads(line)
            if message.get("method") != self.refused:
                yield line
                continue
            error = {"code": -32601, "message": "Method not found"}
            print(
                json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), file=self.out, flush=True
            )


async def main(era: str) -> None:
    from mcp.server.stdio import stdio_server

    server = build()
    out = os.fdopen(os.dup(1), "w")  # the SDK keeps fd 1 for itself
    stdin: Any = Stdin(out, era)
    options = server.create_initialization_options(NotificationOptions(True, True, True))
    async with stdio_server(stdin) as (reader, writer):
        await server.run(reader, writer, options)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
