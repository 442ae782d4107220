"""Heads of requests. A client sends the same bytes again and again, but for its body's length and perhaps a
name: what was parsed twice is not parsed a third time."""

from __future__ import annotations

from urllib.parse import unquote

from .wire import Headers

KEPT = 512 * 1024  # bytes of known heads, after which they are learnt anew
LONGEST = 4096  # bytes of a head that is kept
_ONCE = 4096  # heads that came once
_END = b"\r\n\r\n"
# Headers that say more about the framing than Content-Length does.
_FRAMING = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"trailer"})


class Head:
    """Method, target and headers of a request, and what was found out about them. Many requests may share
    one: nobody changes it.

    ``headers``: all of them as they came, names in lower case; ``fields``: by name, the first of a repeated
    one counts; ``path``: decoded, without the query; ``texts``: values as text, where somebody asked;
    ``checked``: whose check of Host and Origin it has passed, and ``base_url`` and ``shared``, see
    ``Request``.
    """

    __slots__ = (
        "base_url", "checked", "fields", "headers", "length", "method", "path", "shared", "target", "texts",
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
        self.checked: object = None
        self.base_url = ""
        self.shared: Headers = ()


NO_HEAD = Head("", b"/", ())


class KnownHeads:
    """Heads by their bytes: those that came twice. Only such as leave no doubt about the request's framing:
    HTTP/1.1, kept alive, a body of a given length or none."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._size = 0
        self._once: set[int] = set()

    def find(self, data: bytes) -> tuple[Head, int] | None:
        """The head that ``data`` begins with, and how long it is, if it is known."""
        size = data.find(_END) + 4
        head = self._heads.get(data[:size])
        return None if head is None else (head, size)

    def note(self, data: bytes, head: Head) -> None:
        """A request was parsed whose first piece was ``data``."""
        end = data.find(_END)
        if end < 0:  # it began in pieces
            return
        raw = data[: end + 4]
        if (seen := hash(raw)) not in self._once:
            if len(self._once) >= _ONCE:
                self._once.clear()
            self._once.add(seen)
            return
        length = _length(raw, head)
        if length is None:
            return
        if self._size > KEPT:
            self._heads.clear()
            self._size = 0
        head.length = length
        self._heads[raw] = head
        self._size += len(raw)


def _length(raw: bytes, head: Head) -> int | None:
    """How long the body is; None where it takes a parser to know, or ``raw`` is not just this head."""
    lines = len(head.headers) + 2
    if len(raw) > LONGEST or raw.count(b"\r\n") != lines or raw.count(b"\n") != lines or raw[:2] == b"\r\n":
        return None
    if not _FRAMING.isdisjoint(head.fields) or _connection(head) not in (b"", b"keep-alive"):
        return None
    lengths = [value for name, value in head.headers if name == b"content-length"]
    if not lengths:
        return 0
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None


def _connection(head: Head) -> bytes:
    return b",".join(value.strip().lower() for name, value in head.headers if name == b"connection")
