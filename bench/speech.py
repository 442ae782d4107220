"""What the agents say, by protocol: bytes in, bytes out.

What is said to an agent is its answer. ``stream COUNT MILLISECONDS SIZE`` is answered with COUNT pieces of
SIZE characters that far apart; each begins with the time when it was sent (nanoseconds of the machine's
monotonic clock). ``plain COUNT SIZE`` is answered with one JSON document of that many pieces.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

VERSION = "2026-07-28"
NOW = b"2026-01-01T00:00:00Z"
META = b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench","version":"1"}}'
TOOL = (
    b'{"name":"echo","description":"says it again","inputSchema":{"type":"object",'
    b'"properties":{"text":{"type":"string"}},"required":["text"]}}'
)
MCP = {
    "server/discover": b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":'
    b'{"tools":{}},"ttlMs":60000,"cacheScope":"public",%b}' % META,
    "initialize": b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
    b'"serverInfo":{"name":"bench","version":"1"}}',
    "tools/list": b'{"resultType":"complete","tools":[%b],"ttlMs":60000,"cacheScope":"public",%b}'
    % (TOOL, META),
    "ping": b"{}",
}
MANIFEST = (
    b'{"name":"bench","description":"says it again","input_content_types":["text/plain"],'
    b'"output_content_types":["text/plain"],"metadata":{}}'
)
Piece = Callable[[], bytes]


class Refused(Exception):
    """With an HTTP status."""


class Answer(msgspec.Struct):
    body: bytes
    head: bytes = b""  # header lines, each with its line end
    status: int = 200


class Streamed(msgspec.Struct):
    """``size``: of the whole, of a plain answer; None: server-sent events. ``pause``: seconds between."""

    pieces: Iterator[Piece]
    pause: float = 0
    size: int | None = None
    head: bytes = b""


class Call(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"")
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Arguments(msgspec.Struct):
    text: msgspec.Raw = msgspec.Raw(b'""')


class Asked(msgspec.Struct):
    progressToken: msgspec.Raw = msgspec.Raw(b"1")


class ToolCall(msgspec.Struct):
    arguments: Arguments = msgspec.field(default_factory=Arguments)
    meta: Asked = msgspec.field(default_factory=Asked, name="_meta")


class Part(msgspec.Struct):
    text: msgspec.Raw = msgspec.Raw(b'""')
    content: msgspec.Raw = msgspec.Raw(b'""')


class Parts(msgspec.Struct):
    parts: list[Part] = []
    contextId: str = "c"


class Sent(msgspec.Struct):
    message: Parts = msgspec.field(default_factory=Parts)


class Run(msgspec.Struct):
    input: list[Parts] = []
    mode: str = "sync"
    session_id: str = "11111111-1111-4111-8111-111111111111"


_call = msgspec.json.Decoder(Call)
_tool = msgspec.json.Decoder(ToolCall)
_sent = msgspec.json.Decoder(Sent)
_run = msgspec.json.Decoder(Run)


def answer(method: str, path: str, body: bytes, address: Any) -> Answer | Streamed:
    """``address``: host and port of this server. Raises Refused."""
    if path in ("/mcp", "/mcph"):
        return mcp(path == "/mcp", method, body)
    if path.startswith("/a2a"):
        return card(path, address) if method == "GET" else a2a(body)
    if path.startswith("/acp"):
        return manifests(path[4:]) if method == "GET" else acp(body)
    raise Refused(404)


# --- MCP ---------------------------------------------------------------------------------------


def mcp(modern: bool, method: str, body: bytes) -> Answer | Streamed:
    if method != "POST":
        raise Refused(405 if method == "GET" else 200)
    call = _call.decode(body)
    if not call.id:
        return Answer(b"", status=202)
    if call.method == "tools/call":
        return _tool_answer(call, b',"resultType":"complete",%b' % META if modern else b"")
    if call.method in MCP and (modern or call.method != "server/discover"):
        opens = not modern and call.method == "initialize"
        session = b"mcp-session-id: %b\r\n" % _uuid() if opens else b""
        return Answer(_result(call, MCP[call.method]), session)
    return Answer(_rpc(call, b'"error":{"code":-32601,"message":"Method not found"}'))


def _tool_answer(call: Call, tail: bytes) -> Answer | Streamed:
    tool = _tool.decode(call.params)
    text = bytes(tool.arguments.text)
    if text.startswith(b'"plain '):
        return _plain(text, _tool_result(call, b'"\0"', tail))
    if not text.startswith(b'"stream '):
        return Answer(_tool_result(call, text, tail))
    count, pause, size = wanted(text)

    def events() -> Iterator[Piece]:
        for n in range(count):
            yield lambda n=n: event(
                b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,'
                b'"progress":%d,"message":"%b"}}' % (tool.meta.progressToken, n + 1, stamped(size))
            )
        yield lambda: event(_tool_result(call, text, tail))

    return Streamed(events(), pause)


def _plain(text: bytes, document: bytes, head: bytes = b"") -> Streamed:
    """The document with as much as ``text`` wants in place of its NUL."""
    count, size = (int(word) for word in text.strip(b'"').split()[1:])
    begin, end = document.split(b"\0")
    piece = b"x" * size

    def pieces() -> Iterator[Piece]:
        yield lambda: begin
        for _ in range(count):
            yield lambda: piece
        yield lambda: end

    return Streamed(pieces(), size=len(begin) + count * size + len(end), head=head)


def _tool_result(call: Call, text: bytes, tail: bytes) -> bytes:
    return _result(call, b'{"content":[{"type":"text","text":%b}]%b}' % (text, tail))


# --- A2A ---------------------------------------------------------------------------------------


def card(path: str, address: Any) -> Answer:
    url = f"http://{address[0]}:{address[1]}{path.partition('/.well')[0]}"
    return Answer(
        b'{"name":"bench","description":"says it again","version":"1","capabilities":{"streaming":true},'
        b'"defaultInputModes":["text/plain"],"defaultOutputModes":["text/plain"],'
        b'"skills":[{"id":"echo","name":"echo","description":"says it again","tags":[]}],'
        b'"supportedInterfaces":[{"url":"%b","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}'
        % url.encode()
    )


def a2a(body: bytes) -> Answer | Streamed:
    call = _call.decode(body)
    message = _sent.decode(call.params).message
    text = bytes(message.parts[0].text) if message.parts else b'""'
    names = (_uuid(), message.contextId.encode())
    if call.method == "SendMessage":
        whole = (
            b'{"task":{"id":"%b","contextId":"%b","artifacts":[{"artifactId":"a","parts":[{"text":%b}]}],'
            b'"status":{"state":"TASK_STATE_COMPLETED","timestamp":"%b"}}}'
        )
        if text.startswith(b'"plain '):
            return _plain(text, _result(call, whole % (*names, b'"\0"', NOW)))
        return Answer(_result(call, whole % (*names, text, NOW)))
    if call.method != "SendStreamingMessage":
        return Answer(_rpc(call, b'"error":{"code":-32601,"message":"Method not found"}'))
    count, pause, size = wanted(text)

    def events() -> Iterator[Piece]:
        start = b'{"task":{"id":"%b","contextId":"%b","status":{"state":"TASK_STATE_WORKING"}}}'
        yield lambda: event(_result(call, start % names))
        update = b'{"artifactUpdate":{"taskId":"%b","contextId":"%b","append":true,'
        update += b'"artifact":{"artifactId":"a","parts":[{"text":"%b"}]}}}'
        for _ in range(count):
            yield lambda: event(_result(call, update % (*names, stamped(size))))
        end = b'{"statusUpdate":{"taskId":"%b","contextId":"%b","status":{"state":"TASK_STATE_COMPLETED"}}}'
        yield lambda: event(_result(call, end % names))

    return Streamed(events(), pause)


# --- ACP ---------------------------------------------------------------------------------------


def manifests(path: str) -> Answer:
    if path == "/agents":
        return Answer(b'{"agents":[%b]}' % MANIFEST)
    return Answer(MANIFEST if path == "/agents/bench" else b"{}")


def acp(body: bytes) -> Answer | Streamed:
    run, run_id = _run.decode(body), _uuid()
    text = bytes(run.input[0].parts[0].content)
    part = b'{"content_type":"text/plain","content":%b,"content_encoding":"plain"}' % text
    names = b'"run_id":"%b","agent_name":"bench","session_id":"%b"' % (run_id, run.session_id.encode())

    def state(status: bytes, output: bytes = b"") -> bytes:
        form = b'{%b,"status":"%b","output":[%b],"created_at":"%b","finished_at":"%b"}'
        return form % (names, status, output, NOW, NOW)

    def message(parts: bytes) -> bytes:
        return b'{"role":"agent/bench","parts":[%b]}' % parts

    head = b"Run-ID: %b\r\n" % run_id
    if text.startswith(b'"plain '):
        return _plain(text, state(b"completed", message(part.replace(text, b'"\0"'))), head)
    if run.mode != "stream":
        return Answer(state(b"completed", message(part)), head)
    count, pause, size = wanted(text)

    def events() -> Iterator[Piece]:
        yield lambda: event(b'{"type":"run.created","run":%b}' % state(b"created"))
        yield lambda: event(b'{"type":"message.created","message":%b}' % message(b""))
        update = b'{"type":"message.part","part":{"content_type":"text/plain","content_encoding":"plain",'
        update += b'"content":"%b"}}'
        for _ in range(count):
            yield lambda: event(update % stamped(size))
        yield lambda: event(b'{"type":"message.completed","message":%b}' % message(part))
        yield lambda: event(b'{"type":"run.completed","run":%b}' % state(b"completed", message(part)))

    return Streamed(events(), pause, head=head)


# --- small parts -------------------------------------------------------------------------------


def event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


def wanted(text: bytes) -> tuple[int, float, int]:
    """Number of pieces, seconds between them, characters in each."""
    words = text.strip(b'"').split(maxsplit=4)
    if len(words) != 4 or words[0] != b"stream":
        return 1, 0, 0
    return int(words[1]), int(words[2]) / 1000, int(words[3])


def stamped(size: int) -> bytes:
    return (b"@%d@" % time.monotonic_ns()).ljust(size, b"x")


def _uuid() -> bytes:
    return str(uuid.uuid4()).encode()


def _rpc(call: Call, member: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,%b}' % (bytes(call.id), member)


def _result(call: Call, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (bytes(call.id), result)
