"""What passes a relay at once is what passes it anyway, and the record knows it as well."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from agentgw.adapters.a2a.face import passage
from agentgw.adapters.a2a.heard import Heard
from agentgw.adapters.a2a.plain import WireArtifactUpdate, grown, growth_at
from agentgw.gateway.lifecycle import Folding
from agentgw.gateway.model import Artifact, ArtifactDelta, Principal, Task
from agentgw.gateway.transport import HttpTransport

from ...support.offering import Offered, cut
from .support import gateway
from .test_relay import DONE, WORKING, agent, message, piece, status, task

# --- what pieces say, put together ---------------------------------------------------------------

PART = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(alphabet="ab\xe9", max_size=3),
        "metadata": st.just({"a": 1}),
        "mediaType": st.sampled_from(["text/plain", "text/markdown"]),
        "filename": st.just("x"),
    },
).map(lambda part: part if "text" in part else {**part, "data": 1})
UPDATE = st.fixed_dictionaries(
    {
        "artifact": st.fixed_dictionaries(
            {"artifactId": st.sampled_from("ab"), "parts": st.lists(PART, min_size=1, max_size=2)},
            optional={"name": st.just("n"), "metadata": st.just({"b": 2}), "extensions": st.just(["e"])},
        ),
    },
    optional={"append": st.booleans(), "lastChunk": st.booleans(), "metadata": st.just({"c": 3})},
)
BARE = st.builds(
    lambda id, text: {"artifact": {"artifactId": id, "parts": [{"text": text}]}, "append": True},
    st.sampled_from("ab"),
    st.text(alphabet="ab\xe9", max_size=3),
)


def growth(update: dict[str, Any]) -> WireArtifactUpdate:
    return growth_at(json.dumps({"artifactUpdate": update}).encode())


@given(st.lists(UPDATE | BARE, max_size=8))
def test_pieces_put_together_say_what_they_say_one_by_one(updates: list[dict[str, Any]]) -> None:
    one, many = (
        Folding(Task(id="t", context_id="c", agent="x")),
        Folding(Task(id="t", context_id="c", agent="x")),
    )
    heard_one, heard_many = Heard(), Heard()
    for update in updates:
        event = growth(update).read().event
        assert isinstance(event, ArtifactDelta)
        one.add(event)
        heard_one.add(event)
    for event in grown([growth(update) for update in updates]):
        many.add(event)
        heard_many.add(event)
    assert one.task == many.task
    for artifact in one.task.artifacts:
        new = Artifact(artifact_id=artifact.artifact_id, parts=artifact.parts)
        assert heard_one.news(new) == heard_many.news(new)


@pytest.mark.parametrize("other", [task(), status(WORKING), {"new": 1}, {}, 1])
def test_only_pieces_are_pieces(other: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        growth_at(json.dumps(other).encode())


# --- the whole way -------------------------------------------------------------------------------

EVENTS = [
    *(piece(text, append=True) for text in ("a", "ü\u2028", "b\n", "")),
    piece("new", artifact={"artifactId": "b", "parts": [{"data": [1.50]}], "name": "n"}, append=True),
    piece("other task", taskId="u"),
    {**piece("odd"), "new": 1},
    status(WORKING),
    status("TASK_STATE_INPUT_REQUIRED"),
    {"message": message()},
    {"task": task()},
]
PLAIN = EVENTS[:3]
RAW = [
    b'data: {"result":{"artifactUpdate":{"taskId":"t","contextId":"d","artifact":{"artifactId":"a"}}}}\n\n',
    b'data: {"jsonrpc":"2.0","id":%d,"result":{"statusUpdate":{}},"error":{"code":1,"message":"no"}}\n\n',
    b'data: {"jsonrpc":"2.0","id":99,"result":{"artifactUpdate":{"taskId":"t","artifact":{}}}}\n\n',
    b'data: {"jsonrpc":"2.0","id":%d,"result":{"artifactUpdate":{"taskId":"t","artifact":{}}}\n\n',
    b'data: {"jsonrpc":"2.0","id":%d,"result":{"artifactUpdate":{"artifact":{"name":"\xff"}}}}\n\n',
    b": nothing\n\n",
]


def written(chance: random.Random, said: Any) -> bytes:
    """As one of several servers would."""
    result = json.dumps(said, ensure_ascii=False, separators=chance.choice([(",", ":"), None])).encode()
    return chance.choice([
        b'data: {"jsonrpc":"2.0","id":%%d,"result":%b}\n\n',
        b'data: {"id":%%d,"jsonrpc":"2.0","result":%b}\r\n\r\n',
        b'event: message\ndata: {"result": %b}\n\n',
    ]) % result  # fmt: skip


@pytest.mark.parametrize("context", ["c", None], ids=["its-own-name", "another-name"])
@pytest.mark.parametrize("noted", [passage.NOTED, 200], ids=["small", "large"])
async def test_what_passes_at_once_is_what_passes_anyway(
    monkeypatch: pytest.MonkeyPatch, noted: int, context: str | None
) -> None:
    monkeypatch.setattr(passage, "NOTED", noted)
    took = 0

    async def handle(method: str, params: Any, request: Any) -> Any:
        error = {"code": -32001, "message": "not found"}
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "error": error})

    async def outcome(events: list[bytes], cuts: list[int], *, offering: bool) -> Any:
        nonlocal took
        async with agent(handle, streaming=True) as url, gateway(x=url) as gw:
            said = b"".join([event.replace(b"%d", b"1") for event in events])
            pieces = cut(said, cuts) if cuts else [event.replace(b"%d", b"1") for event in events]
            stream = Offered(pieces, offering=offering)
            real = HttpTransport.stream
            with monkeypatch.context() as patch:
                first = iter([stream])
                patch.setattr(
                    HttpTransport,
                    "stream",
                    lambda *args, **kw: nullcontext(s) if (s := next(first, None)) else real(*args, **kw),
                )
                params = {"message": message(**({"contextId": context} if context else {}))}
                body = {"jsonrpc": "2.0", "id": "ours", "method": "SendStreamingMessage", "params": params}
                got = await gw.http.post(f"{gw.url}/a2a/x", json=body)
            took += stream.took
            known = sorted(await gw.hub.tasks(Principal()), key=lambda known: known.id)
            timeless = [msgspec.structs.replace(each, created_at="", updated_at="") for each in known]
            return got.text.split('"reason"')[0], timeless

    for seed in range(18):
        chance = random.Random(seed)
        said = [{"task": task()}, *chance.choices(PLAIN if seed % 2 else EVENTS, k=8)]
        events = [written(chance, each) for each in said]
        if seed % 3 == 0:
            events.append(RAW[seed // 3])
        if seed == 5:
            events.insert(3, written(chance, {"new": 1}))
        end = [] if seed == 5 else [status(DONE)]
        events += [written(chance, each) for each in (*chance.choices(PLAIN, k=2), *end)]
        cuts = [chance.randrange(3000) for _ in range(4)] if seed % 4 == 3 else []
        quick = await outcome(events, cuts, offering=True)
        assert quick == await outcome(events, cuts, offering=False), seed
    assert took
