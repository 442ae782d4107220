"""A foreign MCP server on the official SDK, for the end-to-end tests.

    python mcp_server.py --port 9001           # Streamable HTTP at /mcp, handshake and 2026-07-28
    python mcp_server.py --transport stdio     # the same over stdio
    python mcp_server.py --single --port 9002  # one tool only, which takes one string

Needs mcp and uvicorn.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import mcp.types as t
import uvicorn
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

Context = ServerRequestContext[Any, Any]

SECRET = "secret-crash-text"
PAUSE = 0.05
STEP = 0.02  # between two pieces of work
journal = ""
MANUAL, LOGO = "peer://manual", "peer://logo"


@dataclass
class Call:
    """A tool call: its arguments, and in the modern era the answers to what it asked before."""

    ctx: Context
    args: dict[str, Any]
    answers: dict[str, Any]


Handler = Callable[[Call], Awaitable[t.CallToolResult | t.InputRequiredResult]]


def blob(size: int) -> bytes:
    """The same bytes on every run, all 256 values among them."""
    return bytes((i * 167 + (i >> 8) * 31) % 256 for i in range(size))


def png() -> bytes:
    """A red square of 4 by 4 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + b"\xff\0\0" * 4 for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def schema(required: list[str] | None = None, **properties: str) -> dict[str, Any]:
    """A JSON Schema object: one property per keyword, the value is its type."""
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties) if required is None else required,
    }


def answer(*blocks: Any, structured: Any = None, is_error: bool = False) -> t.CallToolResult:
    content = [t.TextContent(type="text", text=b) if isinstance(b, str) else b for b in blocks]
    return t.CallToolResult(content=content, structured_content=structured, is_error=is_error)


def structured(value: dict[str, Any]) -> t.CallToolResult:
    return answer(json.dumps(value), structured=value)


async def echo(call: Call) -> t.CallToolResult:
    return answer(call.args["text"], structured={"echo": call.args["text"]})


async def add(call: Call) -> t.CallToolResult:
    return structured({"sum": call.args["a"] + call.args["b"]})


async def stream_words(call: Call) -> t.CallToolResult:
    words = call.args["text"].split()
    for done, word in enumerate(words, 1):
        await call.ctx.session.report_progress(done, len(words), word)
        await asyncio.sleep(PAUSE)
    return answer(call.args["text"])


async def make_file(call: Call) -> t.CallToolResult:
    data = t.BlobResourceContents(
        uri="peer://made/data.bin",
        mime_type="application/octet-stream",
        blob=b64(blob(call.args.get("size", 1000))),
    )
    return answer(
        t.ImageContent(type="image", data=b64(png()), mime_type="image/png"),
        t.EmbeddedResource(type="resource", resource=data),
    )


async def receive_file(call: Call) -> t.CallToolResult:
    data = base64.b64decode(call.args["data"], validate=True)
    return structured({"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})


async def fail(call: Call) -> t.CallToolResult:
    return answer(call.args["message"], is_error=True)


async def crash(call: Call) -> t.CallToolResult:
    # What a server that does not hide its exceptions puts on the wire.
    raise MCPError(t.INTERNAL_ERROR, f"RuntimeError: {SECRET}", {"traceback": SECRET})


async def whoami(call: Call) -> t.CallToolResult:
    header = call.ctx.request.headers.get("traceparent") if call.ctx.request is not None else None
    return structured({"header": header, "meta": dict(call.ctx.meta or {}).get("traceparent")})


async def slow(call: Call) -> t.CallToolResult:
    await asyncio.sleep(call.args["seconds"])
    return answer(f"slept {call.args['seconds']}")


def note(line: str) -> None:
    """A line in the journal, by which a test sees what happens here."""
    if journal:
        with open(journal, "a") as file:
            file.write(line + "\n")


async def held(token: str) -> None:
    """Where the journal says `TOKEN holds`, wait until it says `TOKEN goes on`."""

    def noted(line: str) -> bool:
        with open(journal) as file:
            return line in file.read().splitlines()

    while journal and noted(f"{token} holds") and not noted(f"{token} goes on"):  # noqa: ASYNC110
        await asyncio.sleep(STEP)


async def work(call: Call) -> t.CallToolResult:
    """Reports progress `count` times, then answers with all of it; notes when it begins and how it ends."""
    token, pieces = call.args["token"], [f"p{i}" for i in range(call.args["count"])]
    note(f"{token} started")
    try:
        for done, piece in enumerate(pieces, 1):
            await call.ctx.session.report_progress(done, len(pieces), piece)
            await asyncio.sleep(STEP)
            await held(token)
    except asyncio.CancelledError:
        note(f"{token} stopped")
        raise
    note(f"{token} finished")
    return answer(" ".join(pieces))


async def give_up(call: Call) -> t.CallToolResult:
    """Reports progress and then fails, in words of its own."""
    for done in range(3):
        await call.ctx.session.report_progress(done + 1, 9, f"p{done}")
        await asyncio.sleep(STEP)
    return answer(call.args["message"], is_error=True)


async def ask(call: Call) -> t.CallToolResult | t.InputRequiredResult:
    """Asks the user: in the modern era by an answer that says so, before it by a request of its own."""
    question, form = "Which colour?", schema(colour="string")
    if call.ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        reply = await call.ctx.session.elicit_form(question, form, related_request_id=call.ctx.request_id)
    elif not (reply := call.answers.get("colour")):
        params = t.ElicitRequestFormParams(message=question, requested_schema=form)
        return t.InputRequiredResult(input_requests={"colour": t.ElicitRequest(params=params)})
    return answer(f"You said {(reply.content or {}).get('colour', 'nothing')}")


async def reverse(call: Call) -> t.CallToolResult:
    return answer(call.args["text"][::-1])


def tool(fn: Handler, description: str, takes: dict[str, Any], gives: dict[str, Any] | None = None) -> t.Tool:
    return t.Tool(name=fn.__name__, description=description, input_schema=takes, output_schema=gives)


ONE_TEXT = schema(text="string")
FILE = schema(sha256="string", size="integer")
TOOLS: list[tuple[t.Tool, Handler]] = [
    (tool(fn, about, takes, gives), fn)
    for fn, about, takes, gives in [
        (echo, "Says it again", ONE_TEXT, schema(echo="string")),
        (add, "Adds two numbers", schema(a="number", b="number"), schema(sum="number")),
        (stream_words, "Reports progress once a word", ONE_TEXT, None),
        (make_file, "Makes an image and a binary file", schema([], size="integer"), None),
        (
            receive_file,
            "Takes a file as base64",
            schema(data="string"),
            schema(sha256="string", size="integer"),
        ),
        (fail, "Fails with this message", schema(message="string"), None),
        (crash, "Breaks", schema(), None),
        (whoami, "Tells which trace the call belongs to", schema(), None),
        (slow, "Takes its time", schema(seconds="number"), None),
        (ask, "Asks for a colour", schema(), None),
        (work, "Works step by step", schema(token="string", count="integer"), None),
        (give_up, "Begins and then fails with this message", schema(message="string"), None),
    ]
]
SINGLE: list[tuple[t.Tool, Handler]] = [(tool(reverse, "Turns the text around", ONE_TEXT), reverse)]

PROMPTS = [
    t.Prompt(
        name="greet", description="Greets by name", arguments=[t.PromptArgument(name="name", required=True)]
    ),
    t.Prompt(name="motto", description="Has no arguments"),
]
RESOURCES = [
    t.Resource(uri=MANUAL, name="manual", mime_type="text/plain"),
    t.Resource(uri=LOGO, name="logo", mime_type="image/png"),
]
TEMPLATES = [t.ResourceTemplate(uri_template="peer://page/{number}", name="page", mime_type="text/plain")]


def build(tools: list[tuple[t.Tool, Handler]]) -> Server[Any]:
    by_name = {entry.name: (entry, fn) for entry, fn in tools}

    async def list_tools(ctx: Context, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[entry for entry, _ in tools])

    async def call_tool(
        ctx: Context, params: t.CallToolRequestParams
    ) -> t.CallToolResult | t.InputRequiredResult:
        if params.name not in by_name:
            raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {params.name}")
        call = Call(ctx, params.arguments or {}, params.input_responses or {})
        return await by_name[params.name][1](call)

    async def list_prompts(ctx: Context, params: Any) -> t.ListPromptsResult:
        return t.ListPromptsResult(prompts=PROMPTS)

    async def get_prompt(ctx: Context, params: t.GetPromptRequestParams) -> t.GetPromptResult:
        texts = {"greet": f"Say hello to {(params.arguments or {}).get('name')}.", "motto": "Say a motto."}
        if params.name not in texts:
            raise MCPError(t.INVALID_PARAMS, f"Unknown prompt: {params.name}")
        text = t.TextContent(type="text", text=texts[params.name])
        return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=text)])

    async def list_resources(ctx: Context, params: Any) -> t.ListResourcesResult:
        return t.ListResourcesResult(resources=RESOURCES)

    async def list_templates(ctx: Context, params: Any) -> t.ListResourceTemplatesResult:
        return t.ListResourceTemplatesResult(resource_templates=TEMPLATES)

    async def read_resource(ctx: Context, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
        uri = str(params.uri)
        if uri == LOGO:
            found: Any = t.BlobResourceContents(uri=uri, mime_type="image/png", blob=b64(png()))
        elif uri == MANUAL:
            found = t.TextResourceContents(uri=uri, mime_type="text/plain", text="Read me first.")
        elif uri.startswith("peer://page/"):
            text = f"This is page {uri.removeprefix('peer://page/')}."
            found = t.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
        else:
            raise MCPError(t.INVALID_PARAMS, "Resource not found", {"uri": uri})
        return t.ReadResourceResult(contents=[found])

    everything: dict[str, Any] = {
        "on_list_prompts": list_prompts,
        "on_get_prompt": get_prompt,
        "on_list_resources": list_resources,
        "on_list_resource_templates": list_templates,
        "on_read_resource": read_resource,
    }
    methods = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
    return Server(
        "peer-single" if tools is SINGLE else "peer",
        version="1.0",
        cache_hints={method: CacheHint(ttl_ms=0, scope="private") for method in methods},
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=lambda name: by_name[name][0].input_schema if name in by_name else None,
        **({} if tools is SINGLE else everything),
    )


async def run_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--transport", choices=["http", "stdio"], default="http")
    options.add_argument("--port", type=int, default=9001)
    options.add_argument("--single", action="store_true", help="serve only the tool 'reverse'")
    options.add_argument("--journal", default="", help="a file for notes on what begins and ends")
    chosen = options.parse_args()
    global journal
    journal = chosen.journal
    server = build(SINGLE if chosen.single else TOOLS)
    if chosen.transport == "stdio":
        asyncio.run(run_stdio(server))
    else:
        # httptools keeps blanks at the ends of header values, which the SDK then refuses; h11 strips them.
        uvicorn.run(server.streamable_http_app(), port=chosen.port, http="h11", log_level="warning")


if __name__ == "__main__":
    main()
