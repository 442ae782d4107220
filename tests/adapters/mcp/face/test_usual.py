"""Tools' calls of which only what differs is read are the same requests as if all of it was."""

from __future__ import annotations

from typing import Any, cast

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from agentgw.adapters.mcp import wire
from agentgw.adapters.mcp.face import usual
from agentgw.adapters.mcp.face.checks import Said, check
from agentgw.adapters.mcp.face.exchange import Exchange
from agentgw.adapters.mcp.face.http import Refused, era_of, read_message
from agentgw.adapters.mcp.face.kinds import Called, Kind
from agentgw.adapters.mcp.upstream.link import Hello, Link
from agentgw.adapters.mcp.wire import Caller, RpcError

META: dict[str, Any] = {
    wire.META_VERSION: wire.LATEST_MODERN,
    wire.META_CLIENT_CAPABILITIES: {"elicitation": {}},
    wire.META_CLIENT_INFO: {"name": "test", "version": "1"},
}


def said(era: str = "modern", name: str | None = "echo", **more: Any) -> Said:
    if era == "modern":
        return Said(wire.LATEST_MODERN, None, wire.TOOLS_CALL, name, usual=True, **more)
    return Said(None, "s", None, None, usual=True, **more)


def call(meta: Any = META, **params: Any) -> bytes:
    given = {"name": "echo", "arguments": {"text": "hi"}, **params}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": given}
    if meta is not None:
        given["_meta"] = meta
    return msgspec.json.encode(message)


def described(kind: Kind, id: Any, params: Any) -> Any:
    """All that doors ask of a request."""
    asked = cast("Any", Exchange.__new__(Exchange))
    asked.params, asked.head = params, kind.head
    return (
        id,
        {name: getattr(kind, name) for name in Kind.__slots__ if name != "head"},
        msgspec.structs.asdict(kind.head),
        asked.arguments(),
        msgspec.json.decode(msgspec.json.encode(asked.members())),
    )


def in_full(said: Said, body: bytes) -> Any:
    try:
        message = read_message(body)
        era, head = era_of(said, message)
        kind = Kind(str(message.method), head, era)
        if era == "modern":
            kind.revision = check(said, kind)
    except (Refused, RpcError):
        return None
    return described(kind, message.id, message.params)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
metas = st.fixed_dictionaries(
    {},
    optional={
        wire.META_VERSION: st.sampled_from([wire.LATEST_MODERN, "2025-11-25", 1]),
        wire.META_CLIENT_CAPABILITIES: st.just({}) | json,
        wire.META_CLIENT_INFO: st.just({"name": "a"}) | json,
        wire.META_LOG_LEVEL: st.sampled_from(["info", 1]),
        "progressToken": st.sampled_from([1, "t", None]),
        "traceparent": st.just("00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
        "x": json,
    },
)
params = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["echo", "other", 1]),
        "arguments": st.dictionaries(st.text(max_size=5), json, max_size=3) | json,
        "_meta": metas | st.just(META) | st.none(),
        "requestState": st.just("s"),
        "task": st.just({"ttl": 1}),
    },
)
messages = st.fixed_dictionaries(
    {"jsonrpc": st.sampled_from(["2.0", "2.0", "1.0"]), "method": st.sampled_from(["tools/call", "ping"])},
    optional={"id": st.sampled_from([1, "a", None, True, 1.5]), "params": params | json, "result": json},
)


@given(era=st.sampled_from(["modern", "handshake"]), message=messages, again=messages)
def test_what_is_read_is_what_there_is(era: str, message: Any, again: Any) -> None:
    headers, kinds = said(era), usual.Kinds()
    for body in map(msgspec.json.encode, (message, again, message)):
        found = kinds.read(headers, body)
        if found is not None:
            kind, read = found
            assert described(kind, read.id, read.params) == in_full(headers, body)


@pytest.mark.parametrize("meta", [META, None])
def test_a_kind_is_read_once(meta: Any) -> None:
    headers, kinds = said("modern" if meta else "handshake"), usual.Kinds()
    first = kinds.read(headers, call(meta))
    again = said("modern" if meta else "handshake")  # of another request's head
    second = kinds.read(again, call(meta, arguments={"text": "another"}))
    assert first is not None and second is not None
    assert first[0] is second[0]
    assert isinstance(second[1].params, Called)
    assert msgspec.json.decode(cast("Any", second[1].params.arguments)) == {"text": "another"}


@pytest.mark.parametrize(
    "body",
    [
        call(META | {"progressToken": 1}),
        call(META | {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}),
        call(requestState="s"),
        call(name="other"),  # than the header says
        call(META | {wire.META_VERSION: "2025-11-25"}),
        call(META | {wire.META_CLIENT_CAPABILITIES: 1}),
        call(META | {"x": "y" * usual.LONGEST}),
        call().replace(b'"id":1', b'"id":null'),
        call().replace(b'"id":1,', b""),
        b"[%b]" % call(),
        call(arguments={"text": "h\xe9"}).replace(b"\xc3\xa9", b"\xe9"),
    ],
)
def test_what_is_not_usual_is_read_in_full(body: bytes) -> None:
    headers, kinds = said(), usual.Kinds()
    assert kinds.read(headers, call()) is not None
    assert kinds.read(headers, body) is None


def test_without_a_session_or_a_version_nothing_is_usual() -> None:
    assert usual.Kinds().read(Said(None, None, None, None), call(None)) is None


def test_kinds_of_other_headers_are_others() -> None:
    kinds = usual.Kinds()
    assert kinds.read(said(), call()) is not None
    assert kinds.read(said(name="other"), call()) is None  # which says another name than the body


def test_long_headers_are_not_kept() -> None:
    headers = Said(None, "s" * usual.LONGEST, None, None, usual=True)
    assert usual.Kinds().read(headers, call(None)) is None


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "KEPT", 20_000)
    headers, kinds = said(), usual.Kinds()
    for number in range(1000):
        assert kinds.read(headers, call(META | {"number": number})) is not None
        kept = kinds._kept  # pyright: ignore[reportPrivateUsage]
        assert sum(len(name) + len(meta) for _, name, meta in kept) < 25_000


class _Link(Link):
    async def request(self, *_: Any, **__: Any) -> msgspec.Raw:
        raise NotImplementedError

    async def send(self, message: bytes) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    "traced", [[], [("traceparent", "00-a-b-01")], [("traceparent", "00-a-b-01"), ("tracestate", 'v="\xe9"')]]
)
def test_what_a_server_gets_is_the_same(traced: list[tuple[str, str]]) -> None:
    kept = wire.KeptMeta(META | {"x": 1})
    roots, nothing, named = {"roots": {}}, {}, {"name": "c"}
    for version in ("2026-07-28", "2027-01-01", "2026-07-28"):
        link = _Link("a", Hello(era="modern", version=version), lambda: None)
        for capabilities, info in ((roots, named), (nothing, named), (nothing, None)):
            caller = Caller(client_capabilities=capabilities, client_info=info)
            sent = [
                msgspec.json.decode(
                    msgspec.json.encode(
                        link.begin("tools/call", {"name": "t", "_meta": meta}, caller, traced)[1]
                    )
                )
                for meta in (kept, kept, dict(kept))
            ]
            assert sent[0] == sent[1] == sent[2]
            assert sent[0]["_meta"][wire.META_VERSION] == version
    assert kept == META | {"x": 1}
