"""The envelope between eras. Golden files hold: kind and method, the input, a line of dashes, the output."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.mcp.face import eras

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))
SERVER = {"name": "srv", "version": "1"}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    head, _, rest = file.read_text().partition("\n")
    given_text, _, wanted = rest.partition("\n----\n")
    kind, method = head.split()
    value = json.loads(given_text)
    got: Any
    match kind:
        case "to-handshake-client":
            got = eras.to_client(method, value, "handshake", SERVER)
        case "to-modern-client":
            got = eras.to_client(method, value, "modern", SERVER)
        case "to-handshake-server":
            got = eras.to_server(value, "handshake", None)
        case "to-modern-server":
            got = eras.to_server(value, "modern", "warning")
        case _:
            raise AssertionError(kind)
    assert got == json.loads(wanted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), JSON, max_size=5))
def test_a_result_comes_back_from_the_other_era_as_it_was(result: dict[str, Any]) -> None:
    own = {k: v for k, v in result.items() if k not in ("_meta", "resultType", "ttlMs", "cacheScope")}
    there = eras.to_client("prompts/get", own, "modern", SERVER)
    assert eras.to_client("prompts/get", there, "handshake", SERVER) == own


@pytest.mark.parametrize(
    ("method", "code", "data", "client", "shown"),
    [
        ("resources/read", -32002, None, "modern", -32602),
        ("tools/call", -32042, None, "modern", -32600),
        ("tools/call", -32602, None, "modern", -32602),
        ("resources/read", -32602, {"uri": "x://y"}, "handshake", -32002),
        ("resources/read", -32602, None, "handshake", -32602),
        ("tools/call", -32602, {"uri": "x://y"}, "handshake", -32602),
        ("tools/call", -32021, None, "handshake", -32600),
        ("tools/call", 7, None, "handshake", 7),
    ],
)
def test_error_codes(method: str, code: int, data: Any, client: Any, shown: int) -> None:
    assert eras.error_code(method, code, data, client) == shown


def test_tasks_are_offered_in_the_clients_era() -> None:
    known, ui = "io.modelcontextprotocol/tasks", "io.modelcontextprotocol/ui"
    modern = {"tools": {}, "extensions": {known: {}, ui: {}}}
    assert eras.capabilities(modern, "modern", "modern", "2026-07-28") == modern
    older = {"tools": {}, "extensions": {ui: {}}}
    assert eras.capabilities(modern, "modern", "handshake", "2025-06-18") == older
    assert eras.capabilities(modern, "modern", "handshake", "2025-11-25") == {
        **older,
        "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
    }
    partly, whole = {"tasks": {"list": {}}}, {"tasks": {"requests": {"tools": {"call": {}}}}}
    assert eras.capabilities(partly, "handshake", "modern", "2026-07-28") == {}
    assert eras.capabilities(whole, "handshake", "modern", "2026-07-28") == {"extensions": {known: {}}}


def test_log_levels() -> None:
    assert eras.loud_enough({"level": "error"}, "warning")
    assert eras.loud_enough({"level": "warning"}, "warning")
    assert not eras.loud_enough({"level": "info"}, "warning")
    assert eras.loud_enough({"level": "debug"}, None)
