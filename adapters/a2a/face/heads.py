"""What the head of a request says to the doors, whatever its body is."""

from __future__ import annotations

from typing import NamedTuple

from ....gateway.http.request import JSON, Request
from ..wire import Version, version_of

OWN = "/"  # the gateway's own agent, which no registered one can be called
_NOTE = "a2a"
_EXTENSIONS = frozenset({b"a2a-extensions", b"x-a2a-extensions"})  # the second is 0.3's


class Said(NamedTuple):
    """``agent``: the one that the path names (``OWN``: the gateway's own); ``path``: what follows it there;
    ``asked``: ``A2A-Version`` as it came (of the header, or the query), and ``version``: the revision that it
    means, None: none that is spoken; ``extensions``: URIs that the client asks for, comma-separated, of one
    header or several; ``is_json``: whether the body's type is JSON, or not said."""

    agent: str
    path: str
    asked: str | None
    version: Version | None
    extensions: str | None
    is_json: bool


def said(request: Request) -> Said:
    """Read once for all requests that have the same head."""
    known: Said | None = request.notes.get(_NOTE)
    if known is None:
        known = request.notes[_NOTE] = _read(request)
    return known


def _read(request: Request) -> Said:
    agent, path = _place(request)
    asked = request.header(b"a2a-version") or request.query.get("A2A-Version")
    declared = request.header(b"content-type")
    extensions = [value for name, value in request.headers if name in _EXTENSIONS and value]
    return Said(
        agent,
        path,
        asked,
        version_of(asked),
        b", ".join(extensions).decode("latin-1") if extensions else None,
        not declared or declared == JSON or "json" in declared.lower(),
    )


def _place(request: Request) -> tuple[str, str]:
    name, path = OWN, request.rest
    if request.door != "root":
        name, slash, tail = request.rest.removeprefix("/").partition("/")
        path = slash + tail
    if path.startswith("//"):  # a base URL with its final slash, and a path put behind it
        path = "/" + path.lstrip("/")
    return name, path
