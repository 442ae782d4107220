"""What people read: traces, answers, forms."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentgw.cli import answer, ask, terminal, tracing
from agentgw.cli.banner import banner, credentials
from agentgw.gateway.model import Data, File, Text

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("trace-*.txt")), ids=lambda file: file.stem)
def test_trace_trees(file: Path) -> None:
    given, _, wanted = file.read_text().partition("\n-----\n")
    assert tracing.tree(msgspec.json.decode(given)) + "\n" == wanted


def test_a_table_of_calls() -> None:
    call: dict[str, Any] = {
        "trace_id": "ab" * 16, "agent": "research", "client_protocol": "mcp", "agent_protocol": "a2a",
        "state": "completed", "started_at": "2026-11-24T13:05:01.123Z", "duration_ms": 1234.5,
    }  # fmt: skip
    nothing = dict.fromkeys(call)
    assert tracing.listing([call, nothing], UTC) == (
        "TIME                 AGENT     CLIENT → AGENT  STATE      DURATION  TRACE\n"
        f"2026-11-24 13:05:01  research  mcp → a2a       completed  1.2 s     {'ab' * 16}\n"
        "-                    -         - → -           -          -         -"
    )


@pytest.mark.parametrize(
    "ms, wanted",
    [
        (0, "0.0 ms"),
        (9.94, "9.9 ms"),
        (10, "10 ms"),
        (999, "999 ms"),
        (1500, "1.5 s"),
        (125_000, "2 min 5 s"),
    ],
)
def test_durations(ms: float, wanted: str) -> None:
    assert tracing.duration(ms) == wanted


@pytest.mark.parametrize(
    "offset, length, wanted",
    [(0, 100, "━" * 24), (50, 50, " " * 12 + "━" * 12), (0, 0, "━" + " " * 23), (100, 0, " " * 23 + "━")],
)
def test_bars(offset: int, length: int, wanted: str) -> None:
    assert tracing.bar(offset, length, 100) == wanted


def test_spans_in_a_ring_or_without_their_parent_are_not_lost() -> None:
    spans = [{"span_id": "a", "parent_id": "gone"}, {"span_id": "b", "parent_id": "a"}]
    assert [(depth, span["span_id"]) for depth, span in tracing.walk(spans)] == [(0, "a"), (1, "b")]


FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({"type": "string"}, "x y", "x y"),
    ({"type": "integer"}, "4", 4),
    ({"type": "number"}, "1.5", 1.5),
    ({"type": "boolean"}, "Yes", True),
    ({"type": "boolean"}, "n", False),
    ({"enum": ["Red", "Blue"]}, "red", "Red"),
    ({"enum": [1, 2]}, "2", 2),
    ({"oneOf": [{"const": "a", "title": "A"}, {"const": "b"}]}, "b", "b"),
    ({"type": "array", "items": {"enum": ["a", "b"]}}, "a, b", ["a", "b"]),
    ({"type": "object"}, '{"a": 1}', {"a": 1}),
]


@pytest.mark.parametrize("field, typed, wanted", FIELDS)
def test_form_values(field: dict[str, Any], typed: str, wanted: Any) -> None:
    value = ask.value_of(typed, field)
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize(
    "field, typed",
    [
        ({"type": "integer"}, "4.5"),
        ({"type": "number"}, "four"),
        ({"type": "boolean"}, "maybe"),
        ({"enum": ["a"]}, "b"),
        ({"type": "array", "items": {"type": "integer"}}, "1, x"),
        ({"type": "object"}, "{"),
    ],
)
def test_form_values_that_do_not_fit(field: dict[str, Any], typed: str) -> None:
    with pytest.raises(ValueError):
        ask.value_of(typed, field)


def test_labels_say_what_fits() -> None:
    field = {
        "type": "string",
        "title": "Colour",
        "description": "of the box",
        "enum": ["a", "b"],
        "default": "a",
    }
    assert ask.label("c", field, False) == "Colour (of the box; a, b) [a]: "
    assert ask.label("c", {}, True) == "c: "


def test_free_text_that_is_an_object_is_data() -> None:
    assert ask.answer_part('{"tool": "x"}') == Data(data={"tool": "x"})
    assert ask.answer_part("{not json") == Text(text="{not json")


def test_saved_files_stay_inside_and_beside_each_other(tmp_path: Path) -> None:
    names = ["../../x.png", "x.png", "C:\\x.png", "", ".", "..", ".hidden", "/", "a\nb\x1b.txt", "x"]
    saved = [answer.save(tmp_path, File(content=b"1", name=name)) for name in names]
    assert {path.parent for path in saved} == {tmp_path}
    assert [path.name for path in saved] == [
        "x.png", "x-2.png", "x-3.png", "file", "file-2", "file-3", "hidden", "file-4", "a b .txt", "x",
    ]  # fmt: skip


def test_sizes() -> None:
    assert [answer.size(n) for n in (0, 1023, 2048, 3 * 1024**2)] == [
        "0 bytes",
        "1023 bytes",
        "2.0 KiB",
        "3.0 MiB",
    ]


def test_text_is_made_harmless_for_terminals_only_where_needed() -> None:
    assert terminal.printable("a\tb\nc ü\u2028") == "a\tb\nc ü\u2028"
    assert terminal.printable("\x1b[2J\x07\x9b1mx\r") == "[2J1mx"
    assert terminal.one_line("a\n\x1b[2Jb  c") == "a [2Jb c"


def test_the_banner_names_every_door() -> None:
    text = banner("http://127.0.0.1:8080")
    # With its final slash: JavaScript clients resolve the card against it and would lose the name.
    for door in ("", "/mcp", "/mcp/NAME", "/a2a/NAME/", "/acp"):
        assert f"http://127.0.0.1:8080{door}" in text
    assert len(text.splitlines()) <= 8
    assert banner("https://gw.example/") == banner("https://gw.example")
    assert "gRPC" not in text
    assert "127.0.0.1:8081" in banner("http://127.0.0.1:8080", "127.0.0.1:8081")


@pytest.mark.parametrize(
    ("closed", "issuer", "local", "said"),
    [
        (False, "", True, "No key is wanted: whoever calls from this machine may come in"),
        (False, "", False, "No key is wanted: anybody who can reach this address may come in"),
        (True, "", True, "Callers need a key:"),
        (True, "https://id.example", False, "Callers need a token of https://id.example, or a key:"),
    ],
)
def test_the_banner_says_what_callers_need(closed: bool, issuer: str, local: bool, said: str) -> None:
    last = banner("http://127.0.0.1:8080", wanted=credentials(closed, issuer, local=local)).splitlines()[-1]
    assert last.startswith(said)
    assert last.endswith(" agentgw keys create NAME")
