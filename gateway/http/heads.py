"""Heads of requests. A client sends the same bytes again and again, but for its body's length and perhaps a
name: what was parsed twice is not parsed a third time."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from ..access import Grant
from ..recurring import Recurring, has_lines
from .wire import Headers

KEPT = 512 * 1024  # bytes of known heads, after which they are learnt anew
# Headers that say more about the framing than Content-Length does.
_FRAMING = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"trailer"})


class Head:
    """Method, target and headers of a request, and what was found out about them. Many requests may share
    one: nobody changes it.

    ``headers``: all of them as they came, names in lower case; ``fields``: by name, the first of a repeated
    one counts; ``path``: decoded, without the query; ``texts``: values as text, where somebody asked;
    ``notes``: what doors have read in it, see ``Request``; ``checked``: whose check of Host and Origin it has
    passed; with that, ``anybody``: who answers without asking for a credential, ``mount``: the door that it
    leads to, see ``Mounts``, and ``base_url`` and ``shared``, see ``Request``; ``grant``: what its credential
    was good for when it was last looked at.
    """

    __slots__ = (
        "anybody", "base_url", "checked", "fields", "grant", "headers", "length", "method", "mount", "notes",
        "path", "shared", "target", "texts",
    )  # fmt: skip

    def __init__(self, method: str, target: bytes, headers: Headers) -> None:
        self.method = method
        self.target = target  # the path as it came, with the query
        self.headers = headers
        self.fields: dict[bytes, bytes] = dict(reversed(headers))
        self.length = 0  # of the body, of a known head's requests
        path = target.partition(b"?")[0].decode("latin-1")
        if path[:1] != "/":  # RFC 9112, 3.2.2: a proxy's form
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.path: str = unquote(path) if "%" in path else path
        self.texts: dict[bytes, str | None] = {}
        self.notes: dict[str, Any] = {}
        self.checked: object = None
        self.anybody: Any = None
        self.mount: Any = None
        self.grant: Grant | None = None
        self.base_url = ""
        self.shared: Headers = ()


NO_HEAD = Head("", b"/", ())


class KnownHeads(Recurring[Head]):
    """Heads by their bytes: those that came twice. Only such as leave no doubt about the request's framing:
    HTTP/1.1, kept alive, a body of a given length or none."""

    def __init__(self) -> None:
        super().__init__(KEPT)

    def note(self, data: bytes, head: Head) -> None:
        """A request was parsed whose first piece was ``data``."""
        raw = self.again(data)
        length = None if raw is None else _length(raw, head)
        if raw is not None and length is not None:
            head.length = length
            self.keep(raw, head)


def _length(raw: bytes, head: Head) -> int | None:
    """How long the body is; None where it takes a parser to know, or ``raw`` is not just this head."""
    if not has_lines(raw, len(head.headers) + 2):
        return None
    if not _FRAMING.isdisjoint(head.fields) or _connection(head) not in (b"", b"keep-alive"):
        return None
    lengths = [value for name, value in head.headers if name == b"content-length"]
    if not lengths:
        return 0
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None


def _connection(head: Head) -> bytes:
    return b",".join(value.strip().lower() for name, value in head.headers if name == b"connection")
