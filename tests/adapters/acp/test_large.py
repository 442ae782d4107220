"""A large Run passes between ACP client and agent as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentgw.gateway.model import Principal, TaskState

from .conftest import Gateway, served
from .servers import RUN, SESSION, FakeServer
from .test_relay import KEY, request

WORDS = "x" * 600_000  # more than what may wait on the way


def document(status: str = "completed", **fields: Any) -> tuple[str, str]:
    """A Run up to a text in its output, and what comes after that."""
    head = {"run_id": RUN, "agent_name": "inner", "session_id": SESSION, "status": status, **fields}
    output = ',"output":[{"role":"agent","parts":[{"content_type":"text/plain","content":"'
    return json.dumps(head)[:-1] + output, '"}]}],"error":null,"finished_at":null}'


def answering(*pieces: str, more: asyncio.Event | None = None, broken: bool = False) -> FakeServer:
    """It waits for ``more`` before the last piece."""

    async def said() -> AsyncIterator[bytes]:
        for piece in pieces[:-1]:
            yield piece.encode()
        if more is not None:
            await more.wait()
        if broken:
            raise OSError("the connection broke")
        yield pieces[-1].encode()

    return FakeServer({"POST /runs": lambda _: said()})


async def test_the_client_has_its_beginning_before_it_has_ended(gateway: Gateway, as_alice: None) -> None:
    more = asyncio.Event()
    before, after = document()
    async with served(answering(before, WORDS, after, more=more)) as url:
        gateway.relay("outer", url, "inner")
        got = ""
        async with (
            asyncio.timeout(60),
            gateway.http.stream("POST", "/runs", json=request(), headers=KEY) as answer,
        ):
            async for piece in answer.aiter_text():
                got += piece
                if len(got) > len(WORDS) // 2:
                    more.set()
        assert answer.headers["run-id"] == RUN
        session = json.loads(got)["session_id"]
        changed = before.replace('"inner"', '"outer"').replace(SESSION, session)
        assert session != SESSION
        assert got == changed + WORDS + after
        (span,) = [s.attributes for s in gateway.spans() if s.kind == "server"]
        assert span["agentgw.passed_in_pieces"] is True
        assert (span["acp.run.id"], span["agentgw.state"]) == (RUN, "completed")
        (known,) = await gateway.hub.tasks(Principal(owner=True))
        assert (known.id, known.state) == (RUN, TaskState.COMPLETED)


@pytest.mark.parametrize("end", ['"', '"}]}]}}', '"}]}],"status":"failed"}', None])
async def test_one_that_does_not_end_as_it_should_is_cut(gateway: Gateway, end: str | None) -> None:
    async with served(answering(document()[0], WORDS, end or "", broken=end is None)) as url:
        gateway.relay("outer", url, "inner")
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.http.post("/runs", json=request())
        (span,) = [s for s in gateway.spans() if s.kind == "server"]
        assert span.status == "error"


@pytest.mark.parametrize("status", ["failed", "in-progress"])
async def test_what_must_be_seen_as_a_whole_is(gateway: Gateway, status: str) -> None:
    """A crash may stand at its end, and what still works is no answer."""
    crash = '"error":{"code":"server_error","message":"Traceback"}'
    before, after = document(status)
    failed = answering(before, WORDS, after.replace('"error":null', crash))
    failed.routes[f"GET /runs/{RUN}"] = (200, json.loads(before.replace(status, "failed") + after))
    async with served(failed) as url:
        gateway.relay("outer", url, "inner")
        answer = await gateway.http.post("/runs", json=request())
        assert answer.json()["error"]["message"] == "outer failed"
        assert "Traceback" not in answer.text
        (span,) = [s.attributes for s in gateway.spans() if s.kind == "server"]
        assert "agentgw.passed_in_pieces" not in span
