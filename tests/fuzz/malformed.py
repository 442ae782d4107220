"""Valid messages made invalid: their structure changed here and there, and then their bytes.

JSON is a tree of dictionaries, lists and scalars, in which ``Written`` stands for bytes that are written as
they are (what no encoder would write) and ``Pairs`` for an object with its members in order, twice the same
name included.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st


class Written(NamedTuple):
    raw: bytes


class Pairs(NamedTuple):
    members: list[tuple[str, Any]]


def write(value: Any) -> bytes:
    """The tree as bytes."""
    match value:
        case Written():
            return value.raw
        case Pairs():
            return b"{%b}" % b",".join(b"%b:%b" % (write(k), write(v)) for k, v in value.members)
        case dict():
            return write(Pairs(list(value.items())))
        case list():
            return b"[%b]" % b",".join(map(write, value))
        case _:
            return json.dumps(value, ensure_ascii=False).encode()


def nested(depth: int) -> Written:
    return Written(b'{"a":[' * (depth // 2) + b"]}" * (depth // 2))


# Values that one type or another does not expect, and those that fit a type and are at its edge.
ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1e308,
    "", " ", "x", "\0", "\u2028\u2029\x85", "²", "٣", "-1", "1e9", "9" * 5000, "true", "null", "[]", "{}",
    "\r\n\r\n",
    "é" * 300, "a" * 70_000, "../../etc/passwd", "%00", "%ff", "http://[", "http://169.254.169.254/x", "//",
     "data:,x",
    "file:///etc/passwd", "2026-13-45T99:99:99Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z",
    "=?base64?x?=",
    base64.b64encode(b"\xff\xfe").decode(), "====", "00000000-0000-0000-0000-000000000000", "ROLE_USER",
    "user",
    "agent/x", "TASK_STATE_COMPLETED", "completed", "working", "input_required", "application/json",
    "image/png",
    "application/json; charset=x", "text", "$", "*", "urn:x", "tools", "writer",
    [], {}, [None], [[]], [{}], [1, "a", None], {"": None}, {"type": "text"}, {"kind": "text"}, {"text": "a"},
    {"text": 1}, {"parts": []}, {"data": None}, {"uri": "x"}, {"url": "http://x.example"}, {"raw": "a"},
    {"$file": 0}, {"$file": -1}, {"tool": "echo"}, {"tool": None, "arguments": 1}, {"type": "object",
     "required": 1},
    {"$ref": "#"}, ["a"] * 300,
    Written(b"NaN"), Written(b"-Infinity"), Written(b"1e999"), Written(b"-0"), Written(b"01"), Written(b"1."),
    Written(b'"\\ud800"'), Written(b'"\\udc00\\ud800"'), Written(b'"\xff"'), Written(b'"\xed\xa0\x80"'),
    Written(b'"\\x"'), Written(b"'a'"), Written(b'"\n"'), Written(b""), Written(b"nul"), Written(b"{]"),
    Written(b'{"\xff":1}'), Written(b'{"\\ud800":1}'), Written(b'{"a":1,"a":2}'), Written(b"/*x*/1"),
    Written(b"9" * 5000),
    nested(60), nested(90), nested(100), nested(102), nested(400), nested(4000), Written(b"[" * 3000),
]  # fmt: skip
NAMES = [
    "", "id", "name", "type", "kind", "text", "data", "parts", "message", "messages", "metadata", "_meta",
    "task", "taskId",
    "contextId", "params", "result", "error", "code", "status", "state", "method", "jsonrpc", "arguments",
    "tool", "url",
    "uri", "content", "role", "content_type", "content_encoding", "session_id", "session", "run_id", "mode",
    "a" * 300, "\0",
    "progressToken", "cursor", "inputResponses", "requestState", "artifact", "artifacts", "history",
    "final", "append",
    "configuration", "historyLength", "pageSize", "pageToken", "file", "bytes", "await_resume", "output",
    "x-new",
]  # fmt: skip
Path = tuple[Any, ...]
Pick = Callable[[Sequence[Any]], Any]  # one of these


def places(value: Any, at: Path = ()) -> list[Path]:
    """The paths of all values in the tree, but its own."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [path for key, inner in items for path in ((*at, key), *places(inner, (*at, key)))]


def _get(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def edited(value: Any, path: Path, edit: Callable[[Any, Any], Any]) -> Any:
    """A copy in which the container of ``path`` is what ``edit(container, key)`` makes of a copy of it."""
    if len(path) > 1:
        inner = edited(value[path[0]], path[1:], edit)
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[path[0]] = inner
        return copy
    return edit(dict(value) if isinstance(value, dict) else list(value), path[0])


def _put(new: Any) -> Callable[[Any, Any], Any]:
    def edit(container: Any, key: Any) -> Any:
        container[key] = new
        return container

    return edit


def _drop(container: Any, key: Any) -> Any:
    del container[key]
    return container


def _twice(second: Any) -> Callable[[Any, Any], Any]:
    def edit(container: Any, key: Any) -> Any:
        if isinstance(container, dict):
            return Pairs([*container.items(), (key, second)])
        container.insert(key, second)
        return container

    return edit


def _named(name: str) -> Callable[[Any, Any], Any]:
    def edit(container: Any, key: Any) -> Any:
        if isinstance(container, dict):
            return {name if k == key else k: v for k, v in container.items()}
        return container[::-1]

    return edit


def _more(name: str, new: Any) -> Callable[[Any, Any], Any]:
    def edit(container: Any, key: Any) -> Any:
        if isinstance(container, dict):
            container[name] = new
        else:
            container.append(new)
        return container

    return edit


def text(pick: Pick) -> str:
    return "".join(pick('aB0 é²\u2028\x85\0{"\\\t\U0001f600') for _ in range(pick(range(8))))


def junk(pick: Pick) -> bytes:
    return bytes(pick(range(256)) for _ in range(pick(range(9))))


def changed(value: Any, pick: Pick) -> Any:
    """The tree with one change in its structure."""
    where = places(value)
    if not where:
        return pick(ODD)
    path = pick(where)
    old = _get(value, path)
    match pick(["odd", "odd", "odd", "drop", "twice", "name", "more", "wrap", "swap", "text"]):
        case "odd":
            return edited(value, path, _put(pick(ODD)))
        case "drop":
            return edited(value, path, _drop)
        case "twice":
            return edited(value, path, _twice(pick([old, pick(ODD)])))
        case "name":
            return edited(value, path, _named(pick(NAMES)))
        case "more":
            return edited(value, path, _more(pick(NAMES), pick(ODD)))
        case "wrap":
            return edited(value, path, _put(pick([[old], {"a": old}, [old, old], str(old)])))
        case "swap":
            return edited(value, path, _put(_get(value, pick(where))))
        case _:
            return edited(value, path, _put(text(pick)))


def tree(value: Any, pick: Pick) -> Any:
    """The tree with up to three changes in its structure, seldom with none."""
    for _ in range(pick([1, 1, 1, 1, 0, 1, 2, 3])):
        value = changed(value, pick)
    return value


def damaged(data: bytes, pick: Pick) -> bytes:
    """The bytes with one change."""
    at = pick(range(len(data) + 1))
    more = pick([b"\0", b"\xff", b"\xc3", b"{", b"]", b'"', b",", b"\n", b"\r\n\r\n", junk(pick)])
    match pick(["cut", "insert", "overwrite", "bom", "batch", "after", "before", "utf-16"]):
        case "cut":
            return data[:at]
        case "insert":
            return data[:at] + more + data[at:]
        case "overwrite":
            return data[:at] + more + data[at + len(more) :]
        case "bom":
            return b"\xef\xbb\xbf" + data
        case "batch":
            return pick([b"[%b]" % data, b"[%b,%b]" % (data, data), b"[]", b" [1,%b]" % data])
        case "after":
            return data + more
        case "before":
            return more + data
        case _:
            return data.decode("utf-8", "replace").encode("utf-16")


def document(value: Any, pick: Pick) -> bytes:
    """JSON that says nearly what ``value`` says."""
    data = write(tree(value, pick))
    match pick(range(10)):
        case 0:
            return damaged(data, pick)
        case 1:
            return pick([junk(pick), write(pick(ODD))])
        case _:
            return data


def picking(draw: st.DrawFn) -> Pick:
    """Choices that are hypothesis's."""
    return lambda values: draw(st.sampled_from(values))


@st.composite
def trees(draw: st.DrawFn, values: Sequence[Any]) -> Any:
    """Trees after one of these."""
    pick = picking(draw)
    return tree(pick(values), pick)


@st.composite
def documents(draw: st.DrawFn, values: Sequence[Any]) -> bytes:
    """JSON after one of these."""
    pick = picking(draw)
    return document(pick(values), pick)
