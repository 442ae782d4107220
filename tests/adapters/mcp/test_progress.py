"""Progress that is passed on at once is what would be passed on anyway."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.mcp import wire
from agentgw.adapters.mcp.upstream.link import Hello
from agentgw.adapters.mcp.upstream.streamable import HttpLink
from agentgw.adapters.mcp.wire import Caller
from agentgw.gateway.config import Config
from agentgw.gateway.errors import GatewayError
from agentgw.gateway.model import Record
from agentgw.gateway.ports import Host

from ...support.offering import Offered, cut


def note(method: str = wire.PROGRESS, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


USUAL = st.builds(
    lambda n, message: note(progressToken=1, progress=n, **({} if message is None else {"message": message})),
    st.integers(0, 10**20) | st.sampled_from([0.5, 1e300]),
    st.none() | st.text(alphabet='a"\\\n\u2028\xe9', max_size=5),
)
OTHERS = st.sampled_from([
    note(progressToken=2, progress=1),
    note(progressToken="1", progress=1),
    note(progressToken=1, progress=1, total=None, _meta={"progressToken": 1}),
    note(progress=1),
    note("notifications/message", level="info", data={"a": 1}),
    note() | {"new": 1},
    note(progressToken=1, progress=1) | {"jsonrpc": "1.0"},
    {"jsonrpc": "2.0", "method": wire.PROGRESS},
    [note(progressToken=1, progress=7)],
    {"jsonrpc": "2.0", "id": 1, "result": {"early": True}},
    {},
    1,
])  # fmt: skip
FORMS = st.sampled_from([
    b"data: %b\n\n", b"event: message\ndata: %b\n\n", b"event: message\r\ndata: %b\r\n\r\n",
    b"id: 7\ndata: %b\n\n", b"event: other\ndata: %b\n\n", b": nothing\n\ndata: %b\n\n",
])  # fmt: skip
EVENT = st.builds(lambda form, said: form % json.dumps(said).encode(), FORMS, USUAL | USUAL | OTHERS)
END = b'data: {"jsonrpc":"2.0","id":1,"result":{"ok":1}}\n\n'
BROKEN = [
    b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"\xff"}}\n\n',
    b"data: {]\n\n",
]


async def outcome(
    pieces: list[bytes], *, offering: bool, token: str | None = "mine"
) -> tuple[list[Any], Any, int]:
    """What the caller is told, what it gets, and how many pieces were passed on at once. ``token``: the
    caller's, for progress."""
    stream = Offered(pieces, offering=offering)
    told: list[Any] = []

    async def opened(*_: Any, **__: Any) -> Offered:
        return stream

    host = SimpleNamespace(
        transport=SimpleNamespace(opened=opened),
        headers=lambda record: [],
        config=Config(),
    )

    async def notify(method: str, params: dict[str, Any]) -> None:
        told.append(json.loads(wire.encode_notification(method, params)))

    def at_once(messages: Any) -> bool:
        told.extend(json.loads(message) for message in messages)
        return True

    hello = Hello(era="modern", version="2026-07-28")
    link = HttpLink(
        Record(name="x", protocol="mcp", url="http://x/"), cast("Host", host), hello, lambda: None
    )
    caller = Caller(on_notification=notify, at_once=at_once)
    try:
        params = {} if token is None else {"_meta": {"progressToken": token}}
        got: Any = bytes(await link.request("tools/call", params, caller))
    except GatewayError as e:
        got = type(e)
    return told, got, stream.took


@given(
    st.lists(EVENT, max_size=6),
    st.sampled_from([[], [], [], *([broken] for broken in BROKEN)]),
    st.lists(st.integers(0, 2000), max_size=3) | st.none(),
)
def test_progress_at_once_is_progress_all_the_same(
    events: list[bytes], broken: list[bytes], cuts: list[int] | None
) -> None:
    pieces = [*events, *broken, END]
    if cuts is not None:
        pieces = cut(b"".join(pieces), cuts)
    quick = asyncio.run(outcome(pieces, offering=True))
    slow = asyncio.run(outcome(pieces, offering=False))
    assert quick[:2] == slow[:2]


def test_what_is_usual_is_passed_on_at_once() -> None:
    events = [b"data: %b\n\n" % json.dumps(note(progressToken=1, progress=n)).encode() for n in range(3)]
    told, got, took = asyncio.run(outcome([*events, END], offering=True))
    assert took == 3
    assert told == [note(progressToken="mine", progress=n) for n in range(3)]
    assert got == b'{"ok":1}'


def test_who_wants_no_progress_is_told_of_none() -> None:
    event = b"data: %b\n\n" % json.dumps(note(progressToken=1, progress=1)).encode()
    for offering in (True, False):
        assert asyncio.run(outcome([event, END], offering=offering, token=None)) == ([], b'{"ok":1}', 0)
