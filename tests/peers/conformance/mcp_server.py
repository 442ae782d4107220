"""A foreign MCP server on the official SDK with everything that the public conformance suite asks for.

    python mcp_server.py --port 3911                 # Streamable HTTP at /mcp, handshake eras and 2026-07-28
    python mcp_server.py --transport stdio           # the same over stdio
    python mcp_server.py --transport sse --port 3912 # the old HTTP+SSE at /sse

Needs mcp and uvicorn.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import uuid
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import mcp.types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

warnings.simplefilter("ignore", MCPDeprecationWarning)

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
NO_ARGS: dict[str, Any] = {"type": "object", "properties": {}}


def obj(required: bool = True, **props: dict[str, Any]) -> dict[str, Any]:
    s: dict[str, Any] = {"type": "object", "properties": props}
    if required:
        s["required"] = list(props)
    return s


def text(s: str) -> t.TextContent:
    return t.TextContent(type="text", text=s)


def ok(*blocks: Any, **kw: Any) -> t.CallToolResult:
    return t.CallToolResult(content=[text(b) if isinstance(b, str) else b for b in blocks], **kw)


def err(msg: str) -> t.CallToolResult:
    return ok(msg, is_error=True)


def embedded(uri: str, mime: str, body: str) -> t.EmbeddedResource:
    return t.EmbeddedResource(
        type="resource", resource=t.TextResourceContents(uri=uri, mime_type=mime, text=body)
    )


class MemoryEventStore(EventStore):
    """Keeps every event; enough for Last-Event-ID replay in tests."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._log: dict[str, tuple[str, Any]] = {}

    async def store_event(self, stream_id: str, message: Any) -> str:
        eid = str(next(self._ids))
        self._log[eid] = (stream_id, message)
        return eid

    async def replay_events_after(self, last_event_id: str, send: EventCallback) -> str | None:
        if last_event_id not in self._log:
            return None
        stream = self._log[last_event_id][0]
        for eid, (sid, msg) in list(self._log.items()):
            if sid == stream and int(eid) > int(last_event_id) and msg is not None:
                await send(EventMessage(msg, eid))
        return stream


bus = InMemorySubscriptionBus()
subscribed: set[str] = set()

Ctx = ServerRequestContext[Any, Any]


async def log(ctx: Ctx, msg: str) -> None:
    await ctx.session.send_log_message("info", msg, "fixture", related_request_id=ctx.request_id)


def elicit_req(message: str, schema: dict[str, Any]) -> t.ElicitRequest:
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample_req(prompt: str, max_tokens: int) -> t.CreateMessageRequest:
    return t.CreateMessageRequest(
        params=t.CreateMessageRequestParams(
            messages=[t.SamplingMessage(role="user", content=text(prompt))], max_tokens=max_tokens
        )
    )


NAME = obj(name={"type": "string"})
OK_BOOL = obj(ok={"type": "boolean"})


def content_of(resp: Any) -> dict[str, Any]:
    return (resp.content or {}) if isinstance(resp, t.ElicitResult) else {}


# ---------------------------------------------------------------- tools
TOOLS: dict[str, tuple[t.Tool, Any]] = {}


def tool(name: str, description: str, schema: dict[str, Any] = NO_ARGS):
    def deco(fn):
        TOOLS[name] = (t.Tool(name=name, description=description, input_schema=schema), fn)
        return fn

    return deco


@tool("test_simple_text", "Returns plain text")
async def _(ctx, p):
    return ok("This is a simple text response for testing.")


@tool("test_image_content", "Returns an image")
async def _(ctx, p):
    return ok(t.ImageContent(type="image", data=PNG, mime_type="image/png"))


@tool("test_audio_content", "Returns audio")
async def _(ctx, p):
    return ok(t.AudioContent(type="audio", data=WAV, mime_type="audio/wav"))


@tool("test_embedded_resource", "Returns an embedded resource")
async def _(ctx, p):
    return ok(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))


@tool("test_multiple_content_types", "Returns text, image and resource")
async def _(ctx, p):
    return ok(
        "Multiple content types test:",
        t.ImageContent(type="image", data=PNG, mime_type="image/png"),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    )


@tool("test_tool_with_logging", "Emits three info logs")
async def _(ctx, p):
    await log(ctx, "Tool execution started")
    await asyncio.sleep(0.05)
    await log(ctx, "Tool processing data")
    await asyncio.sleep(0.05)
    await log(ctx, "Tool execution completed")
    return ok("Tool with logging executed successfully")


@tool("test_logging_tool", "Tries to log; must stay silent unless the request opted in (2026-07-28)")
async def _(ctx, p):
    await log(ctx, "only with logLevel")
    return ok("logged")


@tool("test_error_handling", "Always an isError result")
async def _(ctx, p):
    return err("This tool intentionally returns an error for testing")


@tool("test_tool_with_progress", "Reports 0, 50, 100 of 100")
async def _(ctx, p):
    for i, step in enumerate((0, 50, 100)):
        if i:
            await asyncio.sleep(0.05)
        await ctx.session.report_progress(step, 100, f"Completed step {step} of 100")
    return ok(str((ctx.meta or {}).get("progress_token", "no-token")))


@tool("test_sampling", "sampling/createMessage (handshake eras)", obj(prompt={"type": "string"}))
async def _(ctx, p):
    r = await ctx.session.create_message(
        [t.SamplingMessage(role="user", content=text((p.arguments or {}).get("prompt", "")))],
        max_tokens=100,
        related_request_id=ctx.request_id,
    )
    return ok(f"LLM response: {getattr(r.content, 'text', '')}")


async def push_elicit(ctx: Ctx, message: str, schema: dict[str, Any], prefix: str) -> t.CallToolResult:
    r = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return ok(f"{prefix}: action={r.action}, content={json.dumps(r.content or {})}")


@tool("test_elicitation", "elicitation/create (handshake eras)", obj(message={"type": "string"}))
async def _(ctx, p):
    schema = obj(
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    return await push_elicit(ctx, (p.arguments or {}).get("message", ""), schema, "User response")


@tool("test_elicitation_sep1034_defaults", "Elicitation defaults for all primitives")
async def _(ctx, p):
    schema = obj(
        required=False,
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return await push_elicit(ctx, "Please provide user information", schema, "Elicitation completed")


@tool("test_elicitation_sep1330_enums", "Elicitation, all five enum shapes")
async def _(ctx, p):
    three = ["option1", "option2", "option3"]
    titled = [{"const": f"value{i}", "title": f"Option {i}"} for i in (1, 2, 3)]
    schema = obj(
        required=False,
        untitledSingle={"type": "string", "enum": three},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "items": {"type": "string", "enum": three}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    return await push_elicit(ctx, "Please select values", schema, "Elicitation completed")


@tool("test_reconnection", "Closes the SSE stream mid-call, finishes after the client reconnects")
async def _(ctx, p):
    await log(ctx, "Before disconnect")
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    await log(ctx, "After reconnect")
    return ok("Reconnection test completed")


@tool(
    "json_schema_2020_12_tool",
    "Tool with JSON Schema 2020-12 features",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def _(ctx, p):
    return ok("json_schema_2020_12_tool")


@tool(
    "test_x_mcp_header",
    "Argument mirrored into the Mcp-Param-Region header (SEP-2243)",
    {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
)
async def _(ctx, p):
    return ok(f"region={(p.arguments or {}).get('region', '<none>')}")


@tool("test_missing_capability", "Needs the client's sampling capability, else -32021")
async def _(ctx, p):
    caps = ctx.session.client_capabilities
    if caps is None or caps.sampling is None:
        raise MCPError(
            t.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool requires the client 'sampling' capability",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return ok("sampling declared")


@tool("test_streaming_elicitation", "Streams progress then asks (2026-07-28: input_required)")
async def _(ctx, p):
    await ctx.session.report_progress(1, 2, "about to ask")
    if p.input_responses:
        return ok("done")
    return t.InputRequiredResult(input_requests={"user_name": elicit_req("What is your name?", NAME)})


@tool("test_trigger_tool_change", "Publishes tools/list_changed")
async def _(ctx, p):
    await bus.publish(ToolsListChanged())
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        await ctx.session.send_tool_list_changed()
    return ok("tool list changed")


@tool("test_trigger_prompt_change", "Publishes prompts/list_changed")
async def _(ctx, p):
    await bus.publish(PromptsListChanged())
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        await ctx.session.send_prompt_list_changed()
    return ok("prompt list changed")


@tool(
    "test_trigger_resource_update",
    "Publishes resources/updated for a URI",
    obj(required=False, uri={"type": "string"}),
)
async def _(ctx, p):
    uri = (p.arguments or {}).get("uri", "test://watched-resource")
    await bus.publish(ResourceUpdated(uri=uri))
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS and uri in subscribed:
        await ctx.session.send_resource_updated(uri)
    return ok("resource updated")


@tool(
    "test_cancellable",
    "Sleeps `seconds`; reports whether it was cancelled",
    obj(required=False, seconds={"type": "number"}),
)
async def _(ctx, p):
    await asyncio.sleep(float((p.arguments or {}).get("seconds", 5)))
    return ok("slept")


# --- multi-round-trip tools (SEP-2322, 2026-07-28 only)
@tool("test_input_required_result_elicitation", "Asks for a name")
async def _(ctx, p):
    r = (p.input_responses or {}).get("user_name")
    if isinstance(r, t.ElicitResult):
        return ok(f"Hello, {content_of(r).get('name', 'stranger')}!")
    return t.InputRequiredResult(input_requests={"user_name": elicit_req("What is your name?", NAME)})


@tool("test_input_required_result_sampling", "Asks the client's model")
async def _(ctx, p):
    r = (p.input_responses or {}).get("capital_question")
    if r is not None:
        return ok(f"Model said: {getattr(getattr(r, 'content', None), 'text', '?')}")
    return t.InputRequiredResult(
        input_requests={"capital_question": sample_req("What is the capital of France?", 100)}
    )


@tool("test_input_required_result_list_roots", "Asks for roots")
async def _(ctx, p):
    r = (p.input_responses or {}).get("client_roots")
    if isinstance(r, t.ListRootsResult):
        return ok(f"Client exposed {len(r.roots)} root(s).")
    return t.InputRequiredResult(input_requests={"client_roots": t.ListRootsRequest()})


@tool("test_input_required_result_request_state", "requestState must come back")
async def _(ctx, p):
    if p.request_state == "nonce-1" and "confirm" in (p.input_responses or {}):
        return ok("state-ok: confirmation received")
    return t.InputRequiredResult(
        input_requests={"confirm": elicit_req("Please confirm", OK_BOOL)}, request_state="nonce-1"
    )


@tool("test_input_required_result_tampered_state", "A tampered requestState is refused")
async def _(ctx, p):
    if p.request_state is not None:
        return ok(f"state-ok: {p.request_state}")
    return t.InputRequiredResult(
        input_requests={"confirm": elicit_req("Please confirm", OK_BOOL)}, request_state="round-1"
    )


@tool("test_input_required_result_multiple_inputs", "Three kinds of input at once")
async def _(ctx, p):
    if {"user_name", "greeting", "client_roots"} <= (p.input_responses or {}).keys():
        return ok("All inputs received.")
    return t.InputRequiredResult(
        input_requests={
            "user_name": elicit_req("What is your name?", NAME),
            "greeting": sample_req("Generate a greeting", 50),
            "client_roots": t.ListRootsRequest(),
        },
        request_state="multi",
    )


@tool("test_input_required_result_multi_round", "Two rounds of questions")
async def _(ctx, p):
    state = json.loads(p.request_state) if p.request_state else {"round": 0}
    answers = p.input_responses or {}
    if state["round"] == 1 and "step1" in answers:
        return t.InputRequiredResult(
            input_requests={
                "step2": elicit_req("Step 2: What is your favorite color?", obj(color={"type": "string"}))
            },
            request_state=json.dumps({"round": 2, "name": content_of(answers["step1"]).get("name")}),
        )
    if state["round"] == 2 and "step2" in answers:
        return ok(f"{state['name']} likes {content_of(answers['step2']).get('color')}.")
    return t.InputRequiredResult(
        input_requests={"step1": elicit_req("Step 1: What is your name?", NAME)},
        request_state=json.dumps({"round": 1}),
    )


@tool("test_input_required_result_capabilities", "Only asks for what the client declared")
async def _(ctx, p):
    caps = ctx.session.client_capabilities
    reqs: dict[str, Any] = {}
    if caps and caps.sampling is not None:
        reqs["sample"] = sample_req("Say hello", 50)
    if caps and caps.elicitation is not None:
        reqs["ask"] = elicit_req("What is your name?", NAME)
    return t.InputRequiredResult(input_requests=reqs, request_state="capability-gated")


# ---------------------------------------------------------------- tasks extension (SEP-2663, 2026-07-28 only)
TASKS_EXT = "io.modelcontextprotocol/tasks"
NEEDS_TASKS = {"requiredCapabilities": {"extensions": {TASKS_EXT: {}}}}


class TaskParams(t.RequestParams):
    task_id: str = Field(alias="taskId")
    input_responses: dict[str, Any] | None = Field(default=None, alias="inputResponses")


@dataclass
class Task:
    id: str
    created: str
    status: str = "working"
    updated: str = ""
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    pending: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    job: Any = None

    def set(self, status: str) -> None:
        self.status, self.updated = status, now()

    def wire(self) -> dict[str, Any]:
        d: dict[str, Any] = {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "ttlMs": 300_000,
            "pollIntervalMs": 100,
        }
        if self.status == "completed":
            d["result"] = self.result
        elif self.status == "failed":
            d["error"] = self.error
        elif self.status == "input_required":
            d["inputRequests"] = self.pending
        return d

    async def ask(self, **requests: t.ElicitRequest) -> dict[str, Any]:
        self.pending = {k: dump(r) for k, r in requests.items()}
        self.set("input_required")
        while self.pending:
            self.answered.clear()
            await self.answered.wait()
        self.set("working")
        return self.answers


TASKS: dict[str, Task] = {}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def dump(m: Any) -> dict[str, Any]:
    return m.model_dump(by_alias=True, mode="json", exclude_none=True)


def has_tasks(ctx: Ctx) -> bool:
    caps = ctx.session.client_capabilities
    return bool(
        ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        and caps
        and caps.extensions
        and TASKS_EXT in caps.extensions
    )


def start_task(body: Any) -> dict[str, Any]:
    """Create the task durably first, then answer with the flat CreateTaskResult."""
    task = Task(id=str(uuid.uuid4()), created=now(), updated=now())
    TASKS[task.id] = task

    async def run() -> None:
        try:
            task.result = {"resultType": "complete", **dump(await body(task))}
            task.set("completed")
        except MCPError as e:
            task.error = dump(e.error)
            task.set("failed")

    task.job = asyncio.create_task(run())
    return {"resultType": "task", **task.wire()}


def task_tool(name: str, description: str, schema: dict[str, Any] = NO_ARGS, required: bool = False):
    def deco(body):
        @tool(name, description, schema)
        async def _(ctx, p):
            args = p.arguments or {}
            if has_tasks(ctx):
                return start_task(lambda task: body(task, args))
            if required and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
                raise MCPError(
                    t.MISSING_REQUIRED_CLIENT_CAPABILITY, "Missing required client capability", NEEDS_TASKS
                )
            return await body(None, args)

        return body

    return deco


@tool("greet", "Greets, synchronously", obj(required=False, name={"type": "string"}))
async def _(ctx, p):
    return ok(f"Hello, {(p.arguments or {}).get('name', 'world')}!")


@task_tool(
    "slow_compute",
    "Sleeps, then answers",
    obj(required=False, seconds={"type": "number"}, label={"type": "string"}),
)
async def _(task, a):
    await asyncio.sleep(float(a.get("seconds", 1)))
    return ok(f"computed {a.get('label', '')}")


@task_tool("failing_job", "A tool error inside a task", required=True)
async def _(task, a):
    return err("job failed")


@task_tool("protocol_error_job", "A protocol error inside a task")
async def _(task, a):
    raise MCPError(t.INTERNAL_ERROR, "job crashed")


@task_tool(
    "confirm_delete",
    "Asks for confirmation inside the task",
    obj(required=False, filename={"type": "string"}),
)
async def _(task, a):
    if task is None:
        return err("needs the tasks extension")
    answers = await task.ask(
        confirm=elicit_req(f"Delete {a.get('filename')}?", obj(confirm={"type": "boolean"}))
    )
    return ok(f"deleted {a.get('filename')}: {json.dumps(answers)}")


@task_tool("multi_input", "Asks two things at once inside the task")
async def _(task, a):
    if task is None:
        return err("needs the tasks extension")
    answers = await task.ask(one=elicit_req("First?", NAME), two=elicit_req("Second?", NAME))
    return ok(json.dumps(answers))


@tool("test_tool_with_task", "One MRTR round, then a task")
async def _(ctx, p):
    if not has_tasks(ctx):
        raise MCPError(
            t.MISSING_REQUIRED_CLIENT_CAPABILITY, "Missing required client capability", NEEDS_TASKS
        )
    r = (p.input_responses or {}).get("user_name")
    if r is None:
        return t.InputRequiredResult(
            input_requests={"user_name": elicit_req("What is your name?", NAME)}, request_state="ask-name"
        )

    async def body(task):
        await asyncio.sleep(0.05)
        return ok(f"Hello, {content_of(r).get('name')}!")

    return start_task(body)


def find_task(ctx: Ctx, p: TaskParams) -> Task:
    if not has_tasks(ctx):
        raise MCPError(
            t.MISSING_REQUIRED_CLIENT_CAPABILITY, "Missing required client capability", NEEDS_TASKS
        )
    # SDK 2.3.0 checks Mcp-Name only for tools/call, prompts/get, resources/read
    if ctx.request is not None and ctx.request.headers.get("mcp-name", "").strip() != p.task_id:
        raise MCPError(t.HEADER_MISMATCH, "mcp-name header does not match params.taskId")
    if p.task_id not in TASKS:
        raise MCPError(t.INVALID_PARAMS, "Unknown task", {"taskId": p.task_id})
    return TASKS[p.task_id]


async def on_task_get(ctx: Ctx, p: TaskParams) -> dict[str, Any]:
    return {"resultType": "complete", **find_task(ctx, p).wire()}


async def on_task_update(ctx: Ctx, p: TaskParams) -> dict[str, Any]:
    task = find_task(ctx, p)
    for k, v in (p.input_responses or {}).items():
        if task.pending.pop(k, None) is not None:
            task.answers[k] = v
    task.answered.set()
    return {"resultType": "complete"}


async def on_task_cancel(ctx: Ctx, p: TaskParams) -> dict[str, Any]:
    task = find_task(ctx, p)
    if task.status in ("working", "input_required"):
        task.job.cancel()
        task.set("cancelled")
    return {"resultType": "complete"}


async def on_list_tools(ctx: Ctx, params: Any) -> t.ListToolsResult:
    return t.ListToolsResult(tools=[tl for tl, _ in TOOLS.values()])


async def on_call_tool(ctx: Ctx, params: t.CallToolRequestParams) -> Any:
    entry = TOOLS.get(params.name)
    if entry is None:
        raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {params.name}")
    return await entry[1](ctx, params)


# ---------------------------------------------------------------- resources
WATCHED = "test://watched-resource"
RESOURCES = [
    t.Resource(
        uri="test://static-text", name="static-text", description="Static text", mime_type="text/plain"
    ),
    t.Resource(
        uri="test://static-binary", name="static-binary", description="Static PNG", mime_type="image/png"
    ),
    t.Resource(uri=WATCHED, name="watched-resource", description="Subscribable", mime_type="text/plain"),
]
TEMPLATE = re.compile(r"^test://template/([^/]+)/data$")


async def on_list_resources(ctx: Ctx, params: Any) -> t.ListResourcesResult:
    return t.ListResourcesResult(resources=RESOURCES)


async def on_list_templates(ctx: Ctx, params: Any) -> t.ListResourceTemplatesResult:
    return t.ListResourceTemplatesResult(
        resource_templates=[
            t.ResourceTemplate(
                uri_template="test://template/{id}/data",
                name="template",
                description="Template resource",
                mime_type="application/json",
            )
        ]
    )


async def on_read_resource(ctx: Ctx, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
    uri = str(params.uri)
    if uri == "test://static-text":
        c: Any = t.TextResourceContents(
            uri=uri, mime_type="text/plain", text="This is the content of the static text resource."
        )
    elif uri == "test://static-binary":
        c = t.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif uri == WATCHED:
        c = t.TextResourceContents(uri=uri, mime_type="text/plain", text="Watched resource content")
    elif m := TEMPLATE.match(uri):
        body = json.dumps({"id": m[1], "templateTest": True, "data": f"Data for ID: {m[1]}"})
        c = t.TextResourceContents(uri=uri, mime_type="application/json", text=body)
    else:
        code = t.INVALID_PARAMS if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else -32002
        raise MCPError(code, "Resource not found", {"uri": uri})
    return t.ReadResourceResult(contents=[c])


async def on_subscribe(ctx: Ctx, params: t.SubscribeRequestParams) -> t.EmptyResult:
    subscribed.add(str(params.uri))
    return t.EmptyResult()


async def on_unsubscribe(ctx: Ctx, params: t.UnsubscribeRequestParams) -> t.EmptyResult:
    subscribed.discard(str(params.uri))
    return t.EmptyResult()


# ---------------------------------------------------------------- prompts
def arg(name: str, description: str) -> t.PromptArgument:
    return t.PromptArgument(name=name, description=description, required=True)


PROMPTS = [
    t.Prompt(name="test_simple_prompt", description="No arguments"),
    t.Prompt(
        name="test_prompt_with_arguments",
        description="Two arguments",
        arguments=[arg("arg1", "First test argument"), arg("arg2", "Second test argument")],
    ),
    t.Prompt(
        name="test_prompt_with_embedded_resource",
        description="Embeds a resource",
        arguments=[arg("resourceUri", "URI of the resource to embed")],
    ),
    t.Prompt(name="test_prompt_with_image", description="Has an image"),
    t.Prompt(name="test_input_required_result_prompt", description="Needs input first (SEP-2322)"),
]


def user(content: Any) -> t.PromptMessage:
    return t.PromptMessage(role="user", content=text(content) if isinstance(content, str) else content)


async def on_list_prompts(ctx: Ctx, params: Any) -> t.ListPromptsResult:
    return t.ListPromptsResult(prompts=PROMPTS)


async def on_get_prompt(ctx: Ctx, params: t.GetPromptRequestParams) -> Any:
    a = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            msgs = [user("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            msgs = [user(f"Prompt with arguments: arg1='{a.get('arg1')}', arg2='{a.get('arg2')}'")]
        case "test_prompt_with_embedded_resource":
            msgs = [
                user(
                    embedded(a.get("resourceUri", ""), "text/plain", "Embedded resource content for testing.")
                ),
                user("Please process the embedded resource above."),
            ]
        case "test_prompt_with_image":
            msgs = [
                user(t.ImageContent(type="image", data=PNG, mime_type="image/png")),
                user("Please analyze the image above."),
            ]
        case "test_input_required_result_prompt":
            r = (params.input_responses or {}).get("user_context")
            if r is None:
                return t.InputRequiredResult(
                    input_requests={
                        "user_context": elicit_req(
                            "What context should the prompt use?", obj(context={"type": "string"})
                        )
                    }
                )
            msgs = [user(f"Use the following context: {content_of(r).get('context', '?')}")]
        case _:
            raise MCPError(t.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    return t.GetPromptResult(messages=msgs)


async def on_completion(ctx: Ctx, params: t.CompleteRequestParams) -> t.CompleteResult:
    values = [v for v in ("paris", "park", "party") if v.startswith(params.argument.value)]
    return t.CompleteResult(completion=t.Completion(values=values, total=len(values), has_more=False))


async def on_set_level(ctx: Ctx, params: t.SetLevelRequestParams) -> t.EmptyResult:
    return t.EmptyResult()


def schema_of(name: str) -> dict[str, Any] | None:
    return TOOLS[name][0].input_schema if name in TOOLS else None


LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")


def build() -> Server[Any]:
    hint = CacheHint(ttl_ms=0, scope="private")
    server: Server[Any] = Server(
        "agentgw-fixture",
        version="0.1.0",
        cache_hints=dict.fromkeys(
            ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"),
            hint,
        ),
        get_tool_input_schema=schema_of,
        on_list_tools=on_list_tools,
        on_call_tool=on_call_tool,
        on_list_resources=on_list_resources,
        on_list_resource_templates=on_list_templates,
        on_read_resource=on_read_resource,
        on_subscribe_resource=on_subscribe,
        on_unsubscribe_resource=on_unsubscribe,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=on_list_prompts,
        on_get_prompt=on_get_prompt,
        on_completion=on_completion,
        on_set_logging_level=on_set_level,
    )
    server.middleware.append(
        RequestStateBoundary(
            RequestStateSecurity(keys=[b"fixture-request-state-key-0123456789abcdef"]),
            default_audience=server.name,
        )
    )
    server.extensions[TASKS_EXT] = {}
    server.add_request_handler("tasks/get", TaskParams, on_task_get)
    server.add_request_handler("tasks/update", TaskParams, on_task_update)
    server.add_request_handler("tasks/cancel", TaskParams, on_task_cancel)
    return server


def main() -> None:
    ap = argparse.ArgumentParser()
    ap.add_argument("--transport", choices=["http", "stdio", "sse"], default="http")
    ap.add_argument("--host", default="127.0.0.1")
    ap.add_argument("--port", type=int, default=3911)
    ap.add_argument("--json", action="store_true", help="handshake era: single JSON bodies, no SSE")
    ap.add_argument("--stateless", action="store_true", help="handshake era: no Mcp-Session-Id")
    ap.add_argument("--no-event-store", action="store_true")
    a = ap.parse_args()
    server = build()
    if a.transport == "stdio":
        from mcp.server.stdio import stdio_server

        async def run() -> None:
            async with stdio_server() as (r, w):
                opts = server.create_initialization_options(NotificationOptions(True, True, True))
                await server.run(r, w, opts)

        asyncio.run(run())
        return
    import uvicorn

    if a.transport == "sse":
        from mcp.server.sse import SseServerTransport
        from starlette.applications import Starlette
        from starlette.responses import Response
        from starlette.routing import Mount, Route

        sse = SseServerTransport("/messages/")

        async def handle(request: Any) -> Response:
            async with sse.connect_sse(request.scope, request.receive, request._send) as (r, w):
                await server.run(
                    r, w, server.create_initialization_options(NotificationOptions(True, True, True))
                )
            return Response()

        app = Starlette(
            routes=[Route("/sse", endpoint=handle), Mount("/messages/", app=sse.handle_post_message)]
        )
    else:
        app = server.streamable_http_app(
            host=a.host,
            json_response=a.json,
            stateless_http=a.stateless,
            event_store=None if a.no_event_store else MemoryEventStore(),
            retry_interval=100,
        )
    uvicorn.run(app, host=a.host, port=a.port, log_level="warning", http="h11")


if __name__ == "__main__":
    main()
