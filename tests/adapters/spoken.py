"""What users of the three protocols say: at random, and once with everything that can be lost."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from agentgw.adapters.a2a.codec import message_from
from agentgw.adapters.a2a.wire import V10
from agentgw.adapters.acp import codec as acp
from agentgw.adapters.mcp.face import tools
from agentgw.gateway.model import Event, Message

from .fidelity import TASK, read_a2a, read_acp, read_mcp

Case = tuple[Message, Sequence[str]]  # a client's message, and what reading it could not take up

word = st.text(st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=6)
line = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10)
value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | line,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(word, inner, max_size=2),
    max_leaves=4,
)
blob = st.binary(max_size=12).map(lambda b: base64.b64encode(b).decode())
metadata = st.dictionaries(word, value, min_size=1, max_size=2)
citation = st.just({"kind": "citation", "url": "https://source.example", "title": "S"})
link = st.sampled_from(["https://x.example/a.png", "http://y.example/", "files/a.png"])
media = st.sampled_from(["image/png", "audio/wav", "application/pdf", "text/csv"])


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


# A2A
common: dict[str, Any] = {"filename": word, "metadata": metadata | citation, "x-new": value}
texts = some({"text": line}, mediaType=st.sampled_from(["text/markdown", "application/json"]), **common)
datas = some({"data": value}, mediaType=st.sampled_from(["application/ld+json", "text/yaml"]), **common)
a2a_part = st.one_of(
    texts,
    st.builds(lambda v: {"text": json.dumps(v), "mediaType": "application/json"}, value),
    datas,
    some({"raw": blob}, mediaType=media, **common),
    some({"url": link}, mediaType=media, **common),
)
a2a_parts = st.lists(a2a_part, min_size=1, max_size=3)
plain_parts = st.lists(some({"text": line.filter(bool)}, metadata=metadata), min_size=1, max_size=2)


def a2a_message(role: str, parts: Any = a2a_parts) -> st.SearchStrategy[dict[str, Any]]:
    head = {"messageId": word, "role": st.just(role), "parts": parts}
    return some(head, metadata=metadata, extensions=st.just(["urn:x"]))


artifact = some(
    {"artifactId": st.sampled_from(["a", "b"]), "parts": a2a_parts},
    name=st.sampled_from(["a", "plot"]),
    description=line.filter(bool),
    metadata=metadata,
    extensions=st.just(["u"]),
)
ids = {"taskId": TASK.id, "contextId": TASK.context_id}


def status(state: str, message: Any) -> st.SearchStrategy[dict[str, Any]]:
    inner = some(
        {"state": st.just(f"TASK_STATE_{state}")}, **({} if message is None else {"message": message})
    )
    return some({"status": inner, **{k: st.just(v) for k, v in ids.items()}}, metadata=metadata).map(
        lambda s: {"statusUpdate": s}
    )


agent_says = a2a_message("ROLE_AGENT", plain_parts)
a2a_stream = st.tuples(
    st.lists(
        st.one_of(
            some({"artifact": artifact, **{k: st.just(v) for k, v in ids.items()}},
                 append=st.booleans(), lastChunk=st.just(True)).map(lambda a: {"artifactUpdate": a}),
            status("WORKING", agent_says),
        ),
        max_size=4,
    ),
    st.one_of(
        status("COMPLETED", a2a_message("ROLE_AGENT")), status("CANCELED", None),
        *(status(s, agent_says) for s in ("FAILED", "REJECTED", "INPUT_REQUIRED", "AUTH_REQUIRED")),
    ),
).map(lambda two: [*two[0], two[1]])  # fmt: skip

# ACP
acp_common: dict[str, Any] = {"name": word | st.none(), "metadata": citation | st.none(), "x-new": value}
acp_part = st.one_of(
    some({"content": line}, content_type=st.sampled_from(["text/plain", "text/markdown"]), **acp_common),
    some({"content": value.map(json.dumps), "content_type": st.just("application/json")}, **acp_common),
    some({"content": blob, "content_encoding": st.just("base64"), "content_type": media}, **acp_common),
    some({"content_url": st.just("https://x.example/a.png"), "content_type": media}, **acp_common),
)
acp_input = st.lists(
    some({"parts": st.lists(acp_part, max_size=2)}, role=st.sampled_from(["user", "agent/x"])),
    min_size=1,
    max_size=2,
)
acp_spoken = st.lists(acp_part, min_size=1, max_size=3).map(
    lambda parts: [
        {"type": "message.created", "message": {"role": "agent/painter", "parts": []}},
        *({"type": "message.part", "part": p} for p in parts),
        {"type": "message.completed", "message": {"role": "agent/painter", "parts": parts}},
    ]
)
asked = st.builds(
    lambda text, more: {"type": "message", "message": {"role": "agent", "parts": [{"content": text}, *more]}},
    line.filter(bool),
    st.sampled_from([
        [],
        [{"name": "schema", "content_type": "application/schema+json", "content": '{"type":"object"}'}],
        [{"name": "url", "content": "\nhttps://login.example/"}],
    ]),
)  # fmt: skip


def acp_end(state: str, **fields: Any) -> st.SearchStrategy[Any]:
    run = {"run_id": TASK.id, "session_id": TASK.context_id, "status": state, "output": []}
    return st.fixed_dictionaries({k: st.just(v) for k, v in run.items()} | fields).map(
        lambda r: [{"type": f"run.{state}", "run": r}]
    )


failure = some({"code": st.just("invalid_input"), "message": line.filter(bool)}, data=metadata)
acp_stream = st.tuples(
    st.lists(acp_spoken | word.map(lambda w: [{"type": "generic", "generic": {"message": w}}]), max_size=3),
    acp_end("completed") | acp_end("cancelled") | acp_end("failed", error=failure)
    | acp_end("awaiting", await_request=asked),
).map(lambda two: [event for group in [*two[0], two[1]] for event in group])  # fmt: skip

# MCP
mcp_arguments = some(
    {"message": line},
    data=value.filter(lambda v: v is not None),
    files=st.lists(
        some({"data": blob}, name=word, media_type=media) | some({"uri": link}, name=word), max_size=2
    ),
)
block = st.one_of(
    some({"type": st.just("text"), "text": line.filter(bool)}, annotations=st.just({"priority": 1})),
    some({"type": st.just("image"), "data": blob, "mimeType": st.just("image/png")}),
    some({"type": st.just("resource_link"), "uri": st.just("https://x.example/a.csv"), "name": word}),
    some({"type": st.just("resource"), "resource": st.just({"uri": "file:///a.txt", "text": "a"})}),
)
mcp_result = some(
    {"content": st.lists(block, min_size=1, max_size=3)},
    structuredContent=st.dictionaries(word, value, max_size=2), isError=st.booleans(), _meta=metadata,
)  # fmt: skip

requests: dict[str, st.SearchStrategy[Case]] = {
    "a2a": a2a_message("ROLE_USER").map(lambda raw: (message_from(raw, V10), ())),
    "acp": acp_input.map(acp.input_message).map(lambda t: (t.value, t.losses)),
    "mcp": mcp_arguments.map(lambda raw: (tools.parse(raw).message, ())),
}
answers_of: dict[str, st.SearchStrategy[list[Event]]] = {
    "a2a": a2a_stream.map(read_a2a),
    "acp": acp_stream.map(read_acp),
    "mcp": mcp_result.map(read_mcp),
}

# --- with everything in it ---------------------------------------------------------------------------------

# Everything that can be lost, at least once.
UNKNOWN = {"x-new": 1}
NOTED = {"metadata": {"n": 1}}
PARTS: list[dict[str, Any]] = [
    {"text": "a", **NOTED, **UNKNOWN},
    {"text": "1", "mediaType": "application/json", "filename": "t"},
    {"data": {}, "mediaType": "text/yaml", "filename": "d"},
    {"url": "files/a.png"},
    {"raw": "AAAA", "filename": "f"},
]
WORDS = {"messageId": "m", "role": "ROLE_AGENT", "parts": PARTS, "extensions": ["u"], **NOTED}
ASKED = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "Who?"}]}
MADE = {"artifactId": "a", "name": "plot", "description": "d", "parts": PARTS, "extensions": ["u"], **NOTED}
CITED = {"kind": "citation", "url": "https://source.example"}
ACP_PARTS: list[dict[str, Any]] = [
    {"content": "a", "content_type": "text/markdown", "metadata": CITED, **UNKNOWN},
    {"content": "{}", "content_type": "application/ld+json"},
    {"content": "{}", "content_type": "application/json", "name": "d"},
    {"content": "AAAA", "content_encoding": "base64", "content_type": "image/png", "name": "f"},
]


def update(state: str, message: Any, **fields: Any) -> dict[str, Any]:
    inner = {"state": f"TASK_STATE_{state}", "message": message}
    return {"statusUpdate": {**ids, "status": inner, **NOTED, **fields}}


def run_event(status: str, **fields: Any) -> dict[str, Any]:
    run = {"run_id": TASK.id, "session_id": TASK.context_id, "status": status, "output": [], **fields}
    return {"type": f"run.{status}", "run": run}


SPOKEN = {"role": "agent/painter", "parts": ACP_PARTS, "created_at": "2026-01-01T00:00:00Z"}
RICH_REQUESTS: dict[str, list[Case]] = {
    "a2a": [(message_from({**WORDS, "role": "ROLE_USER"}, V10), ())],
    "acp": [
        (read.value, read.losses)
        for read in [
            acp.input_message([{"role": "user", "parts": ACP_PARTS}, {"role": "agent", "parts": []}])
        ]
    ],
    "mcp": [
        (tools.parse(arguments).message, ())
        for arguments in [{"message": "a", "data": 1, "files": [{"uri": "files/a.png"}, {"data": "AAAA"}]}]
    ],
}
RICH_ANSWERS: dict[str, list[list[Event]]] = {
    "a2a": [
        read_a2a([
            *({"artifactUpdate": {**ids, "artifact": MADE, "lastChunk": True, **NOTED}} for _ in range(2)),
            update("WORKING", ASKED, **UNKNOWN), update("REJECTED", WORDS, **UNKNOWN),
        ]),
        read_a2a([update("COMPLETED", WORDS)]), read_a2a([update("AUTH_REQUIRED", ASKED)]),
    ],
    "acp": [
        read_acp([
            *({"type": "message.completed", "message": SPOKEN} for _ in range(2)),
            run_event("failed", error={"code": "invalid_input", "message": "no", "data": {"n": 1}}),
        ]),
        read_acp([run_event("awaiting", await_request={"type": "message", "message": SPOKEN})]),
    ],
    "mcp": [
        read_mcp({
            "content": [
                {"type": "text", "text": "a", "annotations": {"priority": 1}},
                {"type": "resource", "resource": {"uri": "file:///a", "text": "a", "mimeType": "text/csv"}},
                {"type": "resource_link", "uri": "files/a.png", "name": "l"},
            ],
            "structuredContent": {"n": 1}, "_meta": {"n": 1}, "isError": failed,
        })
        for failed in (True, False)
    ],
}  # fmt: skip
