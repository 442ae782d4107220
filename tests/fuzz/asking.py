"""Valid requests at every door, which strategies make invalid. ``$task`` and so on: see ``World.prepare``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from .malformed import document, picking
from .world import TOKEN, Ask

BOTH = {"accept": "application/json, text/event-stream"}
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}, "tasks": {}},
    "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "progressToken": "p",
}
CALLS: list[tuple[str, dict[str, Any], str]] = [  # a tool, its arguments, the door
    ("echo", {"text": "hi"}, "/mcp/tools"),
    ("echo", {"text": "stream"}, "/mcp/tools"),
    ("echo", {"text": "ask"}, "/mcp/modern"),
    ("form", {"n": 1}, "/mcp/modern"),
    ("tools__echo", {"text": "hi"}, "/mcp"),
    ("painter", {"message": "hi", "data": {"a": [1]}, "context_id": "c", "skill": "paint",
                 "files": [{"name": "a.txt", "media_type": "text/plain", "data": "YQ=="}]}, "/mcp"),
    ("writer", {"message": "stream", "files": [{"uri": "https://x.example/a"}]}, "/mcp"),
    ("old", {"message": "ask"}, "/mcp"),
    ("painter", {"message": "again", "task_id": "$task"}, "/mcp/painter"),
    ("writer", {"task_id": "$foreign", "context_id": "$foreigncontext", "message": "hi"}, "/mcp"),
]  # fmt: skip
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("tools/list", {"cursor": "x"}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "greet", "arguments": {"who": "me"}}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "file:///a.txt"}),
    ("resources/subscribe", {"uri": "file:///a.txt"}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who",
     "value": "a"}}),
    ("logging/setLevel", {"level": "info"}),
    ("ping", {}),
    ("tasks/get", {"taskId": "$task"}),
    ("tasks/result", {"taskId": "$task"}),
    ("tasks/update", {"taskId": "$task", "inputResponses": {"q": {"action": "accept",
     "content": {"name": "a"}}}}),
    ("tasks/cancel", {"taskId": "$foreign"}),
    ("tasks/list", {}),
    ("server/discover", {}),
    ("subscriptions/listen", {"notifications": {"toolsListChanged": True,
     "resourceSubscriptions": ["file:///a.txt"]}}),
    ("initialize", {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {},
     "roots": {"listChanged": True}},
                    "clientInfo": {"name": "c", "version": "1"}}),
]  # fmt: skip
NOTES: list[dict[str, Any]] = [
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1, "reason": "no"}},
    {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 0.5}},
    {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
    {"jsonrpc": "2.0", "id": 1, "result": {"action": "accept", "content": {}}},
    {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}},
]


def mcp() -> Iterator[Ask]:
    calls = [("tools/call", {"name": tool, "arguments": args}, door) for tool, args, door in CALLS]
    others = [
        (method, params, door) for method, params in OTHERS for door in ("/mcp", "/mcp/tools", "/mcp/modern")
    ]
    for method, params, door in [*calls, *others]:
        named = params.get("name") or params.get("uri") or params.get("taskId")
        own = {"mcp-protocol-version": MODERN, "mcp-method": method} | ({"mcp-name": named} if named else {})
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}
        yield Ask("POST", door, body, {**BOTH, **own})
        session = {"mcp-session-id": {"/mcp": "$mcp", "/mcp/tools": "$mcptools"}.get(door, "x")}
        old = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": {"_meta": {"progressToken": 1}, **params},
        }
        if method != "initialize":
            yield Ask("POST", door, old, {**BOTH, **session, "mcp-protocol-version": "2025-11-25"})
        yield Ask("POST", door, old, dict(BOTH))
    for note in NOTES:
        yield Ask("POST", "/mcp/tools", note, {**BOTH, "mcp-session-id": "$mcptools"})
        yield Ask("POST", "/mcp", note, {**BOTH, "mcp-protocol-version": MODERN, "mcp-method": "x"})
    for method in ("GET", "DELETE", "PUT", "OPTIONS", "HEAD"):
        yield Ask(
            method,
            "/mcp",
            b"",
            {"accept": "text/event-stream", "mcp-session-id": "x", "last-event-id": "1-1"},
        )
    yield Ask(
        "GET",
        "/mcp",
        b"",
        {"accept": "text/event-stream", "mcp-session-id": "$mcp", "last-event-id": "$mcp.1"},
    )


MESSAGE: dict[str, Any] = {
    "messageId": "m", "role": "ROLE_USER", "contextId": "c", "taskId": "$task", "extensions": ["urn:x"],
    "referenceTaskIds": ["a"], "metadata": {"skill": "paint", "n": 1.5},
    "parts": [
        {"text": "hi", "mediaType": "text/plain", "metadata": {"a": 1}},
        {"data": {"tool": "echo", "arguments": {"text": "hi"}}},
        {"raw": "YQ==", "filename": "a.png", "mediaType": "image/png"},
        {"url": "https://x.example/a", "filename": "a"},
    ],
}  # fmt: skip
CONFIGURATION = {
    "acceptedOutputModes": ["text/plain"], "historyLength": 1, "returnImmediately": True,
    "taskPushNotificationConfig": {"id": "p", "url": "https://x.example/hook", "token": "t",
                                   "authentication": {"scheme": "Bearer", "credentials": "c"}},
}  # fmt: skip
MESSAGE03: dict[str, Any] = {
    "kind": "message", "messageId": "m", "role": "user", "contextId": "c", "taskId": "$task",
    "metadata": {"skill": "echo"},
    "parts": [
        {"kind": "text", "text": "hi"},
        {"kind": "data", "data": {"tool": "echo", "arguments": {"text": "hi"}}},
        {"kind": "file", "file": {"bytes": "YQ==", "name": "a", "mimeType": "image/png"}},
        {"kind": "file", "file": {"uri": "https://x.example/a"}},
    ],
}  # fmt: skip
PUSH = {"taskId": "$task", "id": "p", "url": "https://x.example/hook", "token": "t"}
A2A10: list[tuple[str, dict[str, Any]]] = [
    ("SendMessage", {"message": MESSAGE, "configuration": CONFIGURATION, "metadata": {"agent": "tools"},
     "tenant": "x"}),
    ("SendMessage", {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}),
    ("SendStreamingMessage", {"message": {"messageId": "m", "role": "ROLE_USER", "parts": MESSAGE["parts"]}}),
    ("SendStreamingMessage", {"message": {"messageId": "m", "role": "ROLE_USER",
     "parts": [{"text": "ask"}]}}),
    ("GetTask", {"id": "$task", "historyLength": 2}),
    ("ListTasks", {"contextId": "c", "status": "TASK_STATE_WORKING", "pageSize": 2, "pageToken": "x",
                   "statusTimestampAfter": "2026-01-01T00:00:00Z", "includeArtifacts": True,
                   "historyLength": 1}),
    ("ListTasks", {}),
    ("CancelTask", {"id": "$foreign", "metadata": {}}),
    ("SubscribeToTask", {"id": "$task"}),
    ("CreateTaskPushNotificationConfig", PUSH),
    ("GetTaskPushNotificationConfig", {"taskId": "$task", "id": "p"}),
    ("ListTaskPushNotificationConfigs", {"taskId": "$task", "pageSize": 1, "pageToken": "a"}),
    ("DeleteTaskPushNotificationConfig", {"taskId": "$task", "id": "p"}),
    ("GetExtendedAgentCard", {}),
]  # fmt: skip
A2A03: list[tuple[str, dict[str, Any]]] = [
    ("message/send", {"message": MESSAGE03, "configuration": {"blocking": True, "historyLength": 0}}),
    ("message/stream", {"message": {**MESSAGE03, "parts": [{"kind": "text", "text": "stream"}]}}),
    ("tasks/get", {"id": "$task", "historyLength": 1}),
    ("tasks/cancel", {"id": "$foreign"}),
    ("tasks/resubscribe", {"id": "$task"}),
    (
        "tasks/pushNotificationConfig/set",
        {"taskId": "$task", "pushNotificationConfig": {"url": "https://x.example/h"}},
    ),
    ("tasks/pushNotificationConfig/get", {"id": "$task", "pushNotificationConfigId": "p"}),
    ("tasks/pushNotificationConfig/list", {"id": "$task"}),
    ("tasks/pushNotificationConfig/delete", {"id": "$task", "pushNotificationConfigId": "p"}),
    ("agent/getAuthenticatedExtendedCard", {}),
]


def a2a() -> Iterator[Ask]:
    for agent in ("painter", "old", "rest", "tools", "writer"):
        for revision, calls in (("1.0", A2A10), ("0.3", A2A03)):
            for method, params in calls:
                body = {"jsonrpc": "2.0", "id": "7", "method": method, "params": params}
                yield Ask("POST", f"/a2a/{agent}", body, {"a2a-version": revision, "a2a-extensions": "urn:x"})
    yield Ask("POST", "/a2a/none", {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}})


def rest() -> Iterator[Ask]:
    for agent in ("painter", "rest", "old", "modern", "writer"):
        for base, path in (("", "$task"), ("/v1", "x")):
            at = f"/a2a/{agent}{base}"
            sent: dict[str, Any] = {"message": MESSAGE, "configuration": CONFIGURATION}
            if base:
                parts = [
                    {"text": "hi"},
                    {"file": {"fileWithBytes": "WVE9PQ==", "mimeType": "a/b"}},
                    {"data": {"data": {}}},
                ]
                sent = {
                    "message": {"messageId": "m", "role": "ROLE_USER", "content": parts},
                    "configuration": {},
                }
            yield Ask("POST", f"{at}/message:send", sent)
            yield Ask("POST", f"{at}/message:stream", sent, {"user-agent": "python-httpx/1"})
            yield Ask("GET", f"{at}/tasks/{path}?historyLength=1")
            yield Ask("GET", f"{at}/tasks?pageSize=1&pageToken=x&status=TASK_STATE_WORKING&historyLength=2")
            yield Ask("POST", f"{at}/tasks/{path}:cancel", {})
            yield Ask("POST", f"{at}/tasks/{path}:subscribe", {})
            yield Ask("GET", f"{at}/tasks/{path}:subscribe")
            yield Ask("POST", f"{at}/tasks/{path}/pushNotificationConfigs", PUSH)
            yield Ask("GET", f"{at}/tasks/{path}/pushNotificationConfigs?pageSize=1")
            yield Ask("GET", f"{at}/tasks/{path}/pushNotificationConfigs/p")
            yield Ask("DELETE", f"{at}/tasks/{path}/pushNotificationConfigs/p")
        yield Ask("GET", f"/a2a/{agent}/.well-known/agent-card.json", b"", {"a2a-version": "0.3"})
        yield Ask("GET", f"/a2a/{agent}/.well-known/agent.json", b"", {"if-none-match": '"x"'})
        yield Ask("GET", f"/a2a/{agent}/extendedAgentCard")


INPUT: list[dict[str, Any]] = [
    {
        "role": "user", "created_at": "2026-01-01T00:00:00Z", "completed_at": None,
        "parts": [
            {"content": "hi", "content_type": "text/plain", "content_encoding": "plain", "name": "a",
             "metadata": {"kind": "citation", "url": "https://x.example"}},
            {"content": '{"tool":"echo","arguments":{"text":"hi"}}', "content_type": "application/json"},
            {"content": "YQ==", "content_encoding": "base64", "content_type": "image/png"},
            {"content_url": "https://x.example/a", "content_type": "a/b"},
        ],
    },
    {"role": "agent/x", "parts": [{"content": "said"}]},
]  # fmt: skip
ANSWER = {"type": "message", "message": {"role": "user", "parts": [{"content": "hi"}]}}


def acp() -> Iterator[Ask]:
    for agent in ("writer", "painter", "tools"):
        for mode in ("sync", "async", "stream"):
            run = {
                "agent_name": agent,
                "mode": mode,
                "input": INPUT,
                "session_id": "$session",
                "metadata": {"skill": "echo"},
            }
            yield Ask("POST", "/acp/runs", run)
        session = {"id": "$session", "history": ["https://x.example/1"], "state": "https://x.example/2"}
        asks = [{"role": "user", "parts": [{"content": "ask"}]}]
        yield Ask(
            "POST", "/acp/runs", {"agent_name": agent, "mode": "sync", "input": asks, "session": session}
        )
        yield Ask("GET", f"/acp/agents/{agent}")
    for run in ("$run", "$alien", "x"):
        yield Ask("GET", f"/acp/runs/{run}")
        yield Ask("GET", f"/acp/runs/{run}/events")
        yield Ask("POST", f"/acp/runs/{run}", {"run_id": run, "await_resume": ANSWER, "mode": "stream"})
        yield Ask("POST", f"/acp/runs/{run}", {"run_id": run, "await_resume": ANSWER, "mode": "sync"})
        yield Ask("POST", f"/acp/runs/{run}/cancel", {})
    yield Ask("GET", "/acp/agents?limit=2&offset=1")
    yield Ask("GET", "/acp/ping")
    yield Ask("GET", "/acp/session/$session")
    yield Ask("GET", "/acp/resources/$session-1")


def root() -> Iterator[Ask]:
    """The bare address, which speaks all of them."""
    for each in [*mcp(), *a2a(), *rest(), *acp()]:
        first, _, tail = each.path[1:].partition("/")
        if first == "acp":
            yield Ask(each.method, f"/{tail}", each.body, each.headers)
        elif each.path in ("/mcp", "/a2a/painter"):
            yield Ask(each.method, "/", each.body, each.headers)
        elif each.path.startswith("/a2a/painter/"):
            yield Ask(each.method, each.path.removeprefix("/a2a/painter"), each.body, each.headers)


def api() -> Iterator[Ask]:
    own = {"authorization": f"Bearer {TOKEN}"}
    agent = {
        "name": "new",
        "url": "http://new.test/",
        "protocol": "mcp",
        "headers": {"A": "${NONE}"},
        "description": "d",
    }
    for headers in (own, {}):
        for path in ("agents", "agents/painter", "traces?limit=3", "traces/x", "schema", "x"):
            yield Ask("GET", f"/api/{path}", b"", dict(headers))
        yield Ask("POST", "/api/agents", agent, dict(headers))
        yield Ask(
            "POST", "/api/agents/painter/call", {"text": "hi", "data": {"a": 1}, "files": []}, dict(headers)
        )
        yield Ask("POST", "/api/agents/painter/enable", {}, dict(headers))
        yield Ask("POST", "/api/agents/none/check", {}, dict(headers))
        yield Ask("POST", "/api/tasks/$task/cancel", {}, dict(headers))
        yield Ask("DELETE", "/api/agents/none", b"", dict(headers))
    for path in ("/", "/healthz", "/readyz", "/metrics", "/favicon.ico"):
        yield Ask("GET", path, b"", {"accept": "text/html"})


DOORS = {"mcp": mcp, "a2a": a2a, "rest": rest, "acp": acp, "root": root, "api": api}
# What headers may hold: what comes through an HTTP parser.
_VALUES = st.sampled_from(
    ["", " ", "x", "0", "-1", "²", "9" * 5000, "*/*", "text/event-stream", "application/json",
     "text/html;q=x", ",,,",
     "Bearer", "Bearer x", "Basic =", "2026-07-28", "2025-11-25", "1.0", "0.3", "9.9", "null",
     "http://evil.example", "[", "[::1",
     "00-0-0-01", "00-" + "f" * 32 + "-" + "f" * 16 + "-zz", "=?base64?x?=", "=?base64?/w==?=", "5m",
     "1e9s", "-5s", "é", "a\tb",
     "python-httpx/1", "identity;q=0", "gzip"]
) | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)  # fmt: skip
_HEADERS = st.sampled_from(
    ["accept", "content-type", "content-length", "mcp-protocol-version", "mcp-session-id", "mcp-method",
     "mcp-name",
     "mcp-param-x", "last-event-id", "a2a-version", "a2a-extensions", "traceparent", "tracestate",
     "baggage", "origin", "host",
     "authorization", "agentgw-idle-timeout", "agentgw-total-timeout", "user-agent", "if-none-match",
     "content-encoding",
     "cookie", "upgrade", "x-forwarded-for", "forwarded"]
)  # fmt: skip
_PIECES = st.sampled_from(
    ["", "/", "//", "..", "%2e%2e", "%2F", "%00", "%ff", "%", "?", "?a", "?historyLength=²",
     "?historyLength=%C2%B2",
     "?pageSize=" + "9" * 5000, "?limit=-1", "?limit=1e9", "?offset=%C2%B2", "#", ":cancel", ":x", "*",
     "none", "painter",
     "A" * 300, "%E2%80%A8", ";", "\x80", "x" * 9000]
)  # fmt: skip
_METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND"])


@st.composite
def requests(draw: st.DrawFn, valid: list[Ask]) -> Ask:
    """A request like one of these, with something wrong in its body, headers, path or method."""
    ask = valid[draw(st.integers(0, len(valid) - 1))]
    method, path, body, headers = ask.method, ask.path, ask.body, dict(ask.headers)
    where = draw(st.sampled_from(["body"] * 6 + ["header", "header", "path", "method", "all"]))
    if where in ("body", "all"):
        body = (
            document(body, picking(draw))
            if isinstance(body, dict)
            else draw(st.just(body) | st.binary(max_size=30))
        )
    if where in ("header", "all"):
        name = draw(st.sampled_from(sorted(headers)) if headers and draw(st.booleans()) else _HEADERS)
        headers.pop(name, None)
        if draw(st.integers(0, 4)):
            headers[name] = draw(_VALUES)
    if where in ("path", "all"):
        segments = path.split("/")
        segments[draw(st.integers(1, len(segments) - 1))] = draw(_PIECES)
        path = "/".join(segments) if draw(st.booleans()) else path + draw(_PIECES)
    if where == "method":
        method = draw(_METHODS)
    return Ask(method, path, body, headers)
