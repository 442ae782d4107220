"""What a client or an agent says is read, or refused with the error that the codec declares; and what was
read can be written again, for clients of every protocol."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.a2a import (
    canonical,
    card,
    codec,
    contexts,
    events,
    params,
    plain,
    pushconfig,
    rest03,
    signing,
)
from agentgw.adapters.a2a import losses as a2a_losses
from agentgw.adapters.a2a.codec import Malformed
from agentgw.adapters.a2a.face import listing
from agentgw.adapters.a2a.face import named as a2a_named
from agentgw.adapters.a2a.grpc import optional
from agentgw.adapters.a2a.problems import agent_http_error
from agentgw.adapters.a2a.questions import question_from, question_to
from agentgw.adapters.a2a.reader import Reader
from agentgw.adapters.a2a.wire import V03, V10, Op
from agentgw.adapters.acp import codec as acp
from agentgw.adapters.acp import decoding, faults, manifests, rewrite
from agentgw.adapters.acp.encoding import RunEncoder
from agentgw.adapters.acp.run import run_json
from agentgw.adapters.mcp import codec as mcp
from agentgw.adapters.mcp import headers, wire
from agentgw.adapters.mcp import losses as mcp_losses
from agentgw.adapters.mcp.face import answers, elicitation, eras, tools
from agentgw.adapters.mcp.upstream import choice, following, questions
from agentgw.gateway import sse
from agentgw.gateway.errors import GatewayError, InvalidRequest
from agentgw.gateway.lifecycle import fold
from agentgw.gateway.model import (
    Agent,
    Health,
    InputReply,
    InputRequest,
    Invocation,
    Logged,
    Message,
    Record,
    Task,
    Text,
)
from agentgw.gateway.ports import AgentView
from agentgw.gateway.readable import UNREADABLE

from ..support.examples import examples
from .agents import A2A, RESULTS, STRING, Acp, Asked
from .asking import A2A03, A2A10, ANSWER, INPUT, MESSAGE, MESSAGE03, META
from .malformed import document, picking, trees

_encode = msgspec.json.encode
VERSIONS = (V10, V03)
AT = "2026-01-01T00:00:00.000Z"
TASK = Task(
    id="00000000-0000-4000-8000-000000000001", context_id="c", agent="a", created_at=AT, updated_at=AT
)
NO_ONE = AgentView(Record(name="a", protocol="x", url="x:"), None, Health(), None)  # pyright: ignore[reportArgumentType]


class Codec(NamedTuple):
    """``read`` takes a JSON value (``raw``: bytes) like one of ``seeds``."""

    read: Callable[[Any], object]
    seeds: Sequence[Any]
    errors: tuple[type[Exception], ...]
    raw: bool = False


# --- the answers of the agents of this folder, as seeds --------------------------------------------------


def said(agent: Any, method: str, path: str, body: Any) -> list[Any]:
    return [
        p for p in agent(Asked(method, path, {"host": "a.test"}, _encode(body))).pieces if isinstance(p, dict)
    ]


def a2a_said(revision: str) -> list[Any]:
    agent, found = A2A(revision, "HTTP+JSON"), []
    for text in ("hi", "ask", "fail", "work", "message"):
        message = {"message": {"parts": [{"text": text}]}}
        found += [
            *said(agent, "POST", "/message:send", message),
            *said(agent, "POST", "/message:stream", message),
        ]
    return found


def acp_said() -> list[Any]:
    agent, found = Acp(), []
    for text in ("hi", "ask", "fail", "work"):
        body = {"mode": "stream", "input": [{"parts": [{"content": text}]}]}
        found += said(agent, "POST", "/runs", body)
    return found


CARDS = [A2A().card("a.test"), A2A("0.3").card("a.test")]
SIGNED = [
    {**c, "signatures": [{"protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "AAAA", "header": {}}]}
    for c in CARDS
]
BLOCKS: list[Any] = [
    {"type": "text", "text": "a", "annotations": {"priority": 1}},
    {"type": "image", "data": "YQ==", "mimeType": "image/png"},
    {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "a", "mimeType": "text/plain"}},
    {"type": "resource", "resource": {"uri": "file:///a", "blob": "YQ=="}},
    {"type": "resource_link", "uri": "https://x.example/a", "name": "a"},
]
TOOL_RESULT = {
    "content": BLOCKS,
    "structuredContent": {"n": 1},
    "isError": False,
    "_meta": {"a": 1},
    "resultType": "complete",
}
FORM = {
    "type": "object", "required": ["name"],
    "properties": {"name": {"type": "string", "enum": ["a"], "default": "a"}, "n": {"type": "integer"},
     "b": {"type": "boolean"}},
}  # fmt: skip
ELICIT = {"mode": "form", "message": "Who?", "requestedSchema": FORM}
MIRRORED = {
    "type": "object",
    "properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"properties": {}}},
}


# --- what is done with what was read -------------------------------------------------------------------


def message_written(message: Message) -> None:
    """To agents of every protocol."""
    for v in VERSIONS:
        _encode(codec.message_to(message, v))
    _encode(acp.input_json(message).value)
    tool = {"name": "echo", "inputSchema": STRING}
    try:
        chosen = choice.choose(message, "echo", choice.Named([tool]))
        _encode(chosen if isinstance(chosen, InputRequest) else chosen.arguments)
    except InvalidRequest:  # it refers to a file that there is not
        pass
    questions.answered(InputRequest(message=message, kind="form", schema=FORM), InputReply(message=message))
    a2a_losses.of_message(message)
    mcp_losses.of_request(Invocation(agent="a", message=message))


def events_written(found: Sequence[Any]) -> None:
    """To clients of every protocol."""
    task, log = TASK, []
    encoder = RunEncoder(TASK, None)
    narrator = answers.Narrator()
    for seq, event in enumerate(found, 1):
        logged = Logged(seq=seq, at=AT, event=event)
        log.append(logged)
        task = fold(task, event, AT)
        _encode(encoder.feed(event, AT))
        narrator.feed(event)
        a2a_losses.of_event(event)
    for v in VERSIONS:
        _encode(codec.task_to(task, v))
    _encode(run_json(task, log).value)
    _encode(answers.result(task, "2026-07-28"))
    _encode(answers.result(task, "2024-11-05"))
    if task.input_request is not None:
        _encode(codec.message_to(question_to(task.input_request), V10))
        _encode(elicitation.asked(task.input_request, {"elicitation": {"form": {}, "url": {}}}))
    msgspec.json.decode(_encode(task), type=Task)


def items_read(v: str) -> Callable[[Any], object]:
    def read(value: Any) -> None:
        reader = Reader("a")
        item = events.item_from(value, v)  # pyright: ignore[reportArgumentType]
        for to in VERSIONS:
            _encode(events.item_to(item, to))
        events_written(reader.feed(item))

    return read


def plainly(data: bytes) -> None:
    for v in VERSIONS:
        for read in (plain.item_at, plain.task_at):
            try:
                item = read(data, v)
            except (*UNREADABLE, Malformed):
                continue
            if isinstance(item, Task):
                msgspec.json.decode(plain.task_json(item, v))
    if (sent := plain.send_at(data)) is not None:
        message_written(sent[1])
    for op in (Op.SEND, Op.GET, Op.PUSH_GET, Op.LIST):
        for v in VERSIONS:
            a2a_named.state(op, data, v)


def sent_read(v: Any) -> Callable[[Any], object]:
    def read(value: Any) -> None:
        send = params.send_from(value, v)
        message_written(send.message)
        for to in VERSIONS:
            _encode(params.translated(send, to))
            _encode(pushconfig.unpushed(value, v, wait=True))

    return read


def push_read(value: Any) -> None:
    for v in VERSIONS:
        for op in (Op.PUSH_CREATE, Op.PUSH_GET, Op.PUSH_LIST, Op.PUSH_DELETE):
            for read in (lambda op=op, v=v: pushconfig.task_of(op, value, v), lambda op=op,
             v=v: pushconfig.config_id_of(op, value, v),
                         lambda v=v: pushconfig.create_from(value, v), lambda op=op,
                         v=v: pushconfig.rest_params(op, value, {"id": "a"}, v)):  # fmt: skip
                try:
                    read()
                except (Malformed, GatewayError):
                    continue
        listing.query_from(value, v)


def rest_read(value: Any) -> None:
    for read in (
        *([rest03.send_params_to] if "message" in value else []),
        rest03.send_params_from,
        rest03.item_from,
        rest03.task_from,
        rest03.item_to,
        rest03.task_to,
    ):
        try:
            _encode(read(rest03.unnested(value)))
        except Malformed:
            continue


def card_read(value: Any) -> None:
    agent = card.agent_from(value)
    card.interfaces(value)
    view = AgentView(Record(name="a", protocol="a2a", url="http://a.test/"), agent, Health(), None)  # pyright: ignore[reportArgumentType]
    shown = [card.relayed_card(value, "a", ""), card.fresh_card("a", "", agent), manifests.manifest(view)]
    for one in [
        *shown,
        card.as_v03(shown[0], "http://g/"),
        card.hybrid(shown[0], "http://g/"),
        tools.definition("a", view),
    ]:
        _encode(one)
    for wire_signature in value.get("signatures", []) if isinstance(value.get("signatures"), list) else []:
        signature = signing.signature_of(wire_signature)
        if signature is not None:
            signing.checked(
                signature, canonical.accepted(value), [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]
            )


def key_read(value: Any) -> None:
    signature = signing.Signature(protected="a", value=b"\0" * 64, alg="ES256", kid="k")
    for alg in ("ES256", "RS256", "PS256", "EdDSA", "ES512", "none"):
        signing.checked(msgspec.structs.replace(signature, alg=alg), [b"a"], [value])


def run_read(value: Any) -> None:
    events_written(decoding.RunDecoder("a").feed(value))
    events_written(decoding.RunDecoder("a").whole(value))
    events_written(decoding.RunDecoder("a", resumed=value).whole(value))


def acp_passed(data: bytes) -> None:
    for read in (lambda: rewrite.create(data, "a", "s"), lambda: rewrite.resume(data),
     lambda: rewrite.run(data, lambda _: {"a": 1}),
                 lambda: rewrite.event(data, lambda _: {"a": 1})):  # fmt: skip
        try:
            read()
        except UNREADABLE:
            continue


def tool_described(value: Any) -> None:
    skill = mcp.skill_of(value)
    agent = Agent(name="a", skills=(skill,), conversational=False)
    view = AgentView(Record(name="a", protocol="mcp", url="x:"), agent, Health(), None)  # pyright: ignore[reportArgumentType]
    _encode(card.fresh_card("a", "", agent))
    _encode(manifests.manifest(view))
    _encode(tools.definition("a", view))
    _encode(eras.aged_tool(value))
    headers.mirroring([value])
    headers.param_headers(value.get("inputSchema"), {"a": 1, "b": {"c": [None]}})
    following.support(value)
    choice.question([value])


def asked_read(value: Any) -> None:
    request = questions.asked(value, "1")
    for answer in ({"name": "a", "n": "1"}, {"n": 1e99}):
        for part in (
            Message(role="user", parts=(Text(text=_encode(answer).decode()),)),
            Message(role="user", parts=(Text(text="1"),)),
        ):
            questions.answered(request, InputReply(message=part))
    _encode(elicitation.asked(request, {"elicitation": {}}))
    _encode(codec.message_to(question_to(request), V10))
    eras.question(value, "modern")


def elicited(value: Any) -> None:
    for kind in ("form", "text", "url"):
        request = InputRequest(message=Message(role="agent", parts=()), kind=kind)  # pyright: ignore[reportArgumentType]
        message_written(elicitation.answered(request, value))


def result_read(value: Any) -> None:
    for method in ("tools/call", "tools/list", "resources/read", "prompts/get"):
        for other in ("handshake", "modern"):
            _encode(eras.to_client(method, value, other, {"name": "s"}))  # pyright: ignore[reportArgumentType, reportCallIssue]
    events_written(mcp.result_events("echo", value))


def rpc_read(data: bytes) -> None:
    for message in wire.decode(data):
        wire.fields(message.params)
        wire.fields(message.result)
        if isinstance(message.result, msgspec.Raw):
            following.created(message.result)


def context_put(data: bytes) -> None:
    contexts.renamed(data, "c", "d")
    if plain.send_at(data) is not None:
        contexts.in_context(data, "d")


def parts_both(value: Any) -> None:
    message_written(Message(role="user", parts=mcp.parts_of(value)))
    for part in mcp.parts_of(value):
        _encode(mcp.block_of(part))


def text_answered(value: Any) -> None:
    message_written(tools.parse(value).message)


ANY_ANSWER = [*a2a_said("1.0"), *a2a_said("0.3")]
SENT = [p for _, p in (*A2A10, *A2A03)]
CODECS: dict[str, Codec] = {
    "a2a message": Codec(lambda x: message_written(codec.message_from(x, V10, strict=True)), [MESSAGE],
     (Malformed, InvalidRequest)),
    "a2a message 0.3": Codec(lambda x: message_written(codec.message_from(x, V03)), [MESSAGE03], (Malformed,
     InvalidRequest)),
    "a2a answer": Codec(items_read(V10), a2a_said("1.0"), (Malformed,)),
    "a2a answer 0.3": Codec(items_read(V03), a2a_said("0.3"), (Malformed,)),
    "a2a bytes": Codec(plainly, [*ANY_ANSWER, *SENT], (), raw=True),
    "a2a send": Codec(sent_read(V10), [p for m, p in A2A10 if "message" in p], (Malformed, InvalidRequest)),
    "a2a send 0.3": Codec(sent_read(V03), [p for m, p in A2A03 if "message" in p], (Malformed,
     InvalidRequest)),
    "a2a parameters": Codec(push_read, SENT, (Malformed, InvalidRequest)),
    "a2a rest 0.3": Codec(rest_read, [*a2a_said("0.3"), *SENT], (AttributeError, TypeError)),
    "a2a card": Codec(card_read, [*CARDS, *SIGNED], (Malformed,)),
    "a2a key": Codec(key_read, [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k"},
     {"kty": "RSA", "e": "AQAB", "n": "AQAB"},
                                {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}], ()),
    "a2a question": Codec(lambda x: question_from(codec.message_from(x, V10), {}), [MESSAGE], (Malformed,)),
    "a2a error": Codec(lambda x: agent_http_error("a", 400, x), [{"error": {"code": 404, "message": "m",
     "details": [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "TASK_NOT_FOUND"}]}},
        {"type": "TaskNotFoundError"}], (), raw=True),
    "a2a context": Codec(lambda x: context_put(x), SENT, UNREADABLE, raw=True),
    "acp input": Codec(lambda x: message_written(acp.input_message(x).value), [INPUT], (InvalidRequest,
     TypeError)),
    "acp answer": Codec(lambda x: message_written(acp.said(x, "m")), [INPUT[0], ANSWER["message"]],
     (InvalidRequest,)),
    "acp run": Codec(run_read, [*acp_said(), *(e["run"] for e in acp_said() if "run" in e)],
     (InvalidRequest,)),
    "acp question": Codec(decoding.request_of, [ANSWER], (InvalidRequest,)),
    "acp manifest": Codec(lambda x: manifests.agent(x) and manifests.is_manifest(x), [Acp.MANIFEST],
     (InvalidRequest,)),
    "acp bytes": Codec(acp_passed, [*acp_said(), {"agent_name": "a", "mode": None, "input": INPUT}],
     UNREADABLE, raw=True),
    "acp error": Codec(lambda x: faults.fault_of(faults.as_error(x), "a"), [{"code": "server_error",
     "message": "m", "data": {}}], ()),
    "mcp bytes": Codec(rpc_read, [{"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"_meta": META}},
                                  {"jsonrpc": "2.0", "id": 1, "result": {"task": {"taskId": "t",
                                   "status": "working"}}},
                                  {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m"}}],
                                  (ValueError,), raw=True),
    "mcp blocks": Codec(parts_both, [BLOCKS], ()),
    "mcp result": Codec(result_read, [TOOL_RESULT, *RESULTS.values()], ()),
    "mcp tool": Codec(tool_described, [*RESULTS["tools/list"]["tools"], {"name": "m",
     "inputSchema": MIRRORED}], ()),
    "mcp progress": Codec(lambda x: events_written([mcp.progress_event(x), mcp.log_event(x)]),
                          [{"progressToken": 1, "progress": 1, "total": 2, "message": "m"},
                           {"level": "info", "data": "d"}], ()),
    "mcp elicitation": Codec(asked_read, [ELICIT, {"mode": "url", "url": "https://x.example",
     "message": "m"}], ()),
    "mcp elicited": Codec(elicited, [{"action": "accept", "content": {"name": "a"}}], ()),
    "mcp arguments": Codec(text_answered, [{"message": "m", "data": {"tool": "echo",
     "arguments": {"text": "a", "f": {"$file": 0}}},
                                            "files": [{"name": "a", "data": "YQ=="}]}], (tools.BadArguments,
                                            InvalidRequest)),
}  # fmt: skip


@st.composite
def given_to(draw: st.DrawFn, wanted: Codec) -> Any:
    pick = picking(draw)
    if wanted.raw:
        return document(pick(wanted.seeds), pick)
    data = document(pick(wanted.seeds), pick)
    try:
        return msgspec.json.decode(data)
    except UNREADABLE:
        return None


@pytest.mark.parametrize("name", CODECS)
def test_codec(name: str) -> None:
    wanted = CODECS[name]
    objects = not wanted.raw and all(isinstance(seed, dict) for seed in wanted.seeds)

    @examples(45)
    @given(given_to(wanted))
    def reads(value: Any) -> None:
        if objects and not isinstance(value, dict):  # callers look for that
            return
        try:
            wanted.read(value)
        except wanted.errors:
            pass

    reads()


@pytest.mark.skipif(not optional.installed(), reason="the gRPC extra is not installed")
@pytest.mark.parametrize(
    "message", ["SendMessageRequest", "StreamResponse", "Task", "AgentCard", "ListTasksRequest"]
)
def test_grpc_messages(message: str) -> None:
    from agentgw.adapters.a2a.grpc import proto

    @examples(40)
    @given(trees([*SENT, *a2a_said("1.0"), *CARDS]), st.binary(max_size=60), st.integers(0, 200))
    def reads(value: Any, junk: bytes, cut: int) -> None:
        try:
            data = proto.encode(message, msgspec.json.decode(msgspec.json.encode(value)))
        except (Malformed, *UNREADABLE, TypeError):
            data = junk
        for one in (data, data[:cut] + junk, junk + data[cut:]):
            try:
                _encode(proto.decode(message, one))
            except Malformed:
                continue

    reads()


@examples(300)
@given(st.lists(st.sampled_from([b"data: {}", b"data", b"data:", b"event: x", b"id: 1", b"id: \0",
 b"retry: 5", b"retry: " + b"9" * 5000, b": c",
                                 b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\xff", b"x: y",
                                 b"\xef\xbb\xbf"]) | st.binary(max_size=5),
                max_size=14),
       st.lists(st.integers(0, 200), max_size=8))  # fmt: skip
def test_events_however_they_arrive(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    whole, parted = sse.Decoder(1 << 20), sse.Decoder(1 << 20)
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    got = [event for a, b in itertools.pairwise(at) for event in parted.feed(data[a:b])]
    # A line end may be the first half of another, which only the next piece tells.
    assert got == whole.feed(data) and parted.retry == whole.retry
