"""A connection's bytes as requests: httptools parses, strictly; what it does not bound is bounded here."""

from __future__ import annotations

import re
from typing import Any, Protocol, cast

import httptools

from .heads import Head, KnownHeads
from .incoming import Incoming, Line

BadRequest = httptools.HttpParserError  # what came is no HTTP/1.1
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


class Taker(Line, Protocol):
    """Who gets what was parsed: requests, when their head is complete, then their body; or both at once."""

    def on_request(self, incoming: Incoming) -> None: ...

    def on_whole(self, incoming: Incoming) -> None: ...

    def on_body(self, body: bytes) -> None: ...

    def on_message_complete(self) -> None: ...


class Parser:
    """Reads requests. ``limit``: bytes of a head (trailers and chunk extensions count alike).

    ``in_head``: a request has begun and its head is not complete. ``foreign``: what follows is no HTTP.
    """

    __slots__ = (
        "_continues", "_fed", "_first", "_headers", "_heard", "_hosts", "_known", "_last", "_left", "_limit",
        "_open", "_parser", "_taker", "_unheard", "_url", "foreign", "in_head",
    )  # fmt: skip

    def __init__(self, taker: Taker, limit: int, known: KnownHeads) -> None:
        self._taker = taker
        self._known = known
        self._first: bytes | None = None  # what a request began with whose head is not complete yet
        self._open = False  # a request has begun and is not complete, or was the last one
        self._last = False  # after this one the client sends none
        self._left = 0  # bytes that the body of one with a known head still has
        self._limit = limit
        self._heard = False
        self._fed = 0  # bytes among which the whole head is
        self._unheard = 0  # bytes since the parser last said that something was complete
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._hosts = 0
        self._continues = False
        self.in_head = False
        self.foreign = False
        self._parser: Any = None  # before the first head that is not known: it takes 1 KB

    def feed(self, data: bytes) -> bool:
        """Read on; False when something has no end within the limit. Raises BadRequest."""
        while not self._open:
            found = self._known.find(data)
            if found is None:
                break
            data = self._begun(*found, data)
            if not data:
                return True
        if self._left:
            data = self._more(data)
            return self.feed(data) if data else True
        return self._parsed(data)

    def _begun(self, head: Head, size: int, data: bytes) -> bytes:
        """A request with a known head; what follows it in ``data``."""
        end = size + head.length
        if len(data) >= end:
            self._taker.on_whole(Incoming(self._taker, head, True, True, data[size:end]))
            return data[end:]
        incoming = Incoming(self._taker, head, True, True)
        self._taker.on_request(incoming)
        self._left = head.length
        self._open = True
        return self._more(data[size:])

    def _more(self, data: bytes) -> bytes:
        """Of the body of one with a known head; what follows it."""
        body, data = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(body)
        if body:
            self._taker.on_body(body)
        if not self._left:
            self.on_message_complete()
        return data

    def _parsed(self, data: bytes) -> bool:
        self._first = None if self._open else data
        self._heard = False
        self._fed += len(data)
        self._feed(data)
        if not self.in_head:
            self._fed = 0
        self._unheard = 0 if self._heard else self._unheard + len(data)
        return self._unheard <= self._limit

    def _feed(self, data: bytes | memoryview) -> None:
        if self._parser is None:
            self._parser = cast("Any", httptools.HttpRequestParser(self))
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as e:
                data = memoryview(data)[e.args[0] :]
                method = self._parser.get_method()
                if method == b"CONNECT":
                    self.foreign = True
                    return
                # RFC 9110, 7.8: an upgrade may be ignored. The parser takes what follows for another
                # protocol; it is the request's body, and then the next request.
                version = self._parser.get_http_version().encode()
                lines = [b"%b: %b\r\n" % header for header in self._headers if header[0] != b"upgrade"]
                head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._url, version, b"".join(lines))
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head)

    def close(self) -> None:
        """Nothing more is read. What parses holds on to this object, and it to its taker."""
        self._parser = None

    def give_up(self) -> None:
        """The head that does not end is too large: tell what there is of it."""
        self._url = self._url[: self._limit] or b"/"
        self._tell(False, True)

    # --- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._heard = self.in_head = self._open = True
        self._url = b""
        self._headers = []
        self._hosts = 0
        self._continues = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # else it is a trailer
            name = name.lower()
            if name == b"host":
                self._hosts += 1
            elif name == b"expect":
                self._continues = value.strip().lower() == b"100-continue"
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._heard = True
        keep_alive = self._parser.should_keep_alive()
        if self._parser.should_upgrade():
            if self._parser.get_method() != b"CONNECT":
                return  # it comes again
            keep_alive = False
        too_large = False
        if self._fed > self._limit:  # else it can't be
            size = sum(len(name) + len(value) + 4 for name, value in self._headers)
            too_large = len(self._url) + size > self._limit
        self._tell(keep_alive, too_large)

    def _tell(self, keep_alive: bool, too_large: bool) -> None:
        self.in_head = False
        self._last = not keep_alive
        modern = self._parser.get_http_version() == "1.1"
        target, headers = self._url, self._headers
        if self._hosts != 1 and (self._hosts or modern) and not too_large:
            raise BadRequest("not one Host")  # RFC 9112, 3.2
        if target[:1] != b"/":
            target, headers = origin_form(target, headers)
        head = Head(self._parser.get_method().decode("ascii"), target, headers)
        self._headers = []  # it may be a long time until the next ones
        if self._first is not None:
            if keep_alive and modern and not too_large and target is self._url:
                self._known.note(self._first, head)
            self._first = None
        incoming = Incoming(self._taker, head, keep_alive and modern, modern)
        incoming.continues = self._continues and modern
        incoming.too_large = too_large
        self._taker.on_request(incoming)

    def on_chunk_header(self) -> None:
        self._heard = True

    def on_body(self, body: bytes) -> None:
        self._heard = True
        self._taker.on_body(body)

    def on_message_complete(self) -> None:
        self._open = self._last
        self._taker.on_message_complete()


def origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A target in a proxy's form, and the request's headers, as if the host that it names had been asked
    itself: that counts, whatever Host says (RFC 9112, 3.2.2). Other targets as they are."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return target, headers
    authority, path = match.groups()
    path = path if path[:1] == b"/" else b"/" + path
    return path, [(b"host", authority), *(header for header in headers if header[0] != b"host")]
