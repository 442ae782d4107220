"""From a URL and headers to the head of an HTTP/1.1 request."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, final
from urllib.parse import quote, unquote, urlsplit

from .errors import BadUpstream

PORTS = {"http": 80, "https": 443}
_SAFE = "!$%&'()*+,/:;=?@-._~[]"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Of the connection, not of the request: decided here.
_OWN = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
# Of those that a request always has, which has the caller given?
_MARKS = {"host": 1, "user-agent": 2, "accept-encoding": 4, "authorization": 8}


@final
class Fixed:
    """Headers that many requests have in common, in the place of one: where it is the same object each time,
    their bytes are kept, in ``lines``."""

    __slots__ = ("headers", "lines")

    def __init__(self, headers: Sequence[tuple[str, str]]) -> None:
        self.headers = tuple(headers)
        self.lines: tuple[int, bytes] | None = None


Headers = Sequence[tuple[str, str] | Fixed]
# Lines of headers that were sent before; most are in every request to an agent.
_lines: dict[tuple[str, str], tuple[int, bytes]] = {}
_KEPT, _LONGEST = 2048, 512
_VARYING = frozenset({"traceparent", "tracestate", "baggage", "last-event-id"})


class Target(NamedTuple):
    """A URL taken apart. ``authority``: as in Host; ``path``: with the query; ``authorization``: from a user
    and password in the URL."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str
    authorization: str | None


@lru_cache(maxsize=1024)
def target_of(url: str) -> Target:
    """Raises BadUpstream for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError as e:
        raise BadUpstream("the agent's URL is not valid", detail=f"{url}: {e}") from e
    if parts.scheme not in PORTS or not host or port == 0 or re.search(r"[\s\x00-\x1f]", host):
        raise BadUpstream("the agent's URL is not valid", detail=url)
    authorization = None
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    path = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        path += f"?{quote(parts.query, safe=_SAFE)}"
    name = f"[{host}]" if ":" in host else host
    authority = name if port is None else f"{name}:{port}"
    return Target(parts.scheme, host, port or PORTS[parts.scheme], authority, path, authorization)


def head_of(
    method: str,
    target: Target,
    headers: Headers,
    length: int | None,
    proxied: bool = False,
    proxy_authorization: str | None = None,
) -> bytes:
    """The head of a request. ``length``: bytes of its body, None: it has none. ``proxied``: in the form for a
    proxy, with the whole URL. Headers about the connection and the framing are left out: they are not the
    caller's. Raises BadUpstream for a header that cannot be sent."""
    lines = [b""]
    given = 0
    for header in headers:
        if type(header) is Fixed:  # isinstance takes far longer to say no
            mark, line = header.lines or _group(header)
        elif header[0] in _VARYING:
            mark, line = 0, _encoded(*header)
        else:
            mark, line = _lines.get(header) or _line(*header)
        given |= mark
        lines.append(line)
    lines[0] = _start(method, target, proxied, given)
    if proxy_authorization:
        lines.append(_line("proxy-authorization", proxy_authorization)[1])
    if length is not None or method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d\r\n" % (length or 0))
    lines.append(b"\r\n")
    return b"".join(lines)


@lru_cache(maxsize=1024)
def _start(method: str, target: Target, proxied: bool, given: int) -> bytes:
    """The request line, and the headers that every request has; ``given``: those that the caller has."""
    path = f"{target.scheme}://{target.authority}{target.path}" if proxied else target.path
    own = [("host", target.authority), ("user-agent", "agentgw"), ("accept-encoding", "identity")]
    if target.authorization:
        own.append(("authorization", target.authorization))
    lines = [_line(name, value)[1] for name, value in own if not given & _MARKS[name]]
    return b"".join([f"{method} {path} HTTP/1.1\r\n".encode("latin-1"), *lines])


def _group(fixed: Fixed) -> tuple[int, bytes]:
    """The same for headers that stay together."""
    lines = [_line(*header) for header in fixed.headers]
    marks = 0
    for mark, _ in lines:
        marks |= mark
    group = marks, b"".join(line for _, line in lines)
    if len(group[1]) <= _LONGEST:
        fixed.lines = group
    return group


def _line(name: str, value: str) -> tuple[int, bytes]:
    """A header's line, nothing for one that is decided here, and its mark. Raises BadUpstream."""
    key = _key(name)
    if not key:
        return 0, b""
    line = _MARKS.get(key, 0), _encoded(name, value)
    if len(value) <= _LONGEST:
        if len(_lines) >= _KEPT:
            _lines.clear()
        _lines[name, value] = line
    return line


def _encoded(name: str, value: str) -> bytes:
    """The line of a header. Raises BadUpstream for a value that can't be sent."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise BadUpstream("a header for the agent is not valid", detail="it holds a line break")
    try:
        return f"{name}: {value}\r\n".encode("latin-1")
    except UnicodeEncodeError as e:
        raise BadUpstream("a header for the agent is not valid", detail=str(e)) from e


@lru_cache(maxsize=1024)
def _key(name: str) -> str:
    """The name in lower case; "" for one that is decided here. Raises BadUpstream for what is no name."""
    if not _TOKEN.fullmatch(name):
        raise BadUpstream("a header for the agent is not valid", detail=repr(name))
    return "" if name.lower() in _OWN else name.lower()


def connect_head(authority: str, authorization: str | None) -> bytes:
    """The head of the request for a tunnel through a proxy (RFC 9110, 9.3.6)."""
    more = f"proxy-authorization: {authorization}\r\n" if authorization else ""
    return f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{more}\r\n".encode("latin-1")
