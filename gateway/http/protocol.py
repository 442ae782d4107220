"""uvicorn's HTTP/1.1, with bounds on a request while it is being read.

httptools has none: it takes head after head into memory. A head past the bound becomes a request marked
``scope["state"][HEAD_TOO_LARGE]`` with what was read of it, so that its door can say no in its own form; the
connection ends with the answer, and nothing more is read from it.

Nor does anybody else count the time: a client that stops in the middle of a request would hold its place, and
what it sent, for ever. Its connection is closed.
"""

from __future__ import annotations

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TOO_LARGE = "agentgw.head_too_large"
SLOWEST = 1024  # bytes a second that a client may be as slow as for longer than its patience


class BoundedProtocol(HttpToolsProtocol):
    """``limit``: bytes of request line and headers; trailers and chunk extensions count alike. ``patience``:
    seconds without (much of) the rest of a request, or without a first one."""

    limit = 64 * 1024
    patience = 30.0
    _unheard = 0  # bytes since the parser last said that something was complete
    _heard = False
    _refused = False
    _due = 0.0  # when patience ends, in the loop's time
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_more(0)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._await_nothing()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._heard = False
        super().data_received(data)
        self._unheard = 0 if self._heard else self._unheard + len(data)
        if self._unheard > self.limit:
            self._refuse()
        if self._complete:
            self._await_nothing()
        else:
            self._await_more(len(data))

    @property
    def _complete(self) -> bool:
        """Whether all requests that began have come to their end."""
        return bool(self.scope) and "path" in self.scope and not (self.cycle and self.cycle.more_body)

    def _await_more(self, size: int) -> None:
        now = self.loop.time()
        if self._waiting is None:
            self._due = now + self.patience
            self._waiting = self.loop.call_at(self._due, self._look)
        else:
            self._due = min(self._due + size / SLOWEST, now + self.patience)

    def _await_nothing(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _look(self) -> None:
        """The time to end may have come; not while it is us who do not read on."""
        self._waiting = None
        if self.flow.read_paused:
            self._await_more(0)
        elif self.loop.time() < self._due:
            self._waiting = self.loop.call_at(self._due, self._look)
        else:
            self.transport.close()

    def on_message_begin(self) -> None:
        self._heard = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._heard = True
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limit:
            self._mark()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._heard = True

    def on_body(self, body: bytes) -> None:
        self._heard = True
        super().on_body(body)

    def _mark(self) -> None:
        self.scope.setdefault("state", {})[HEAD_TOO_LARGE] = True

    def _refuse(self) -> None:
        """Answer a head that did not end yet; without one (trailers), just leave."""
        self._refused = True
        if not self.scope or "path" in self.scope:
            self.transport.close()
            return
        self._mark()
        self.headers.append((b"connection", b"close"))
        self.url = self.url[: self.limit] or b"/"
        try:
            super().on_headers_complete()
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        self.cycle.keep_alive = False


def bounded(limit: int) -> type[BoundedProtocol]:
    """The protocol with this bound, for ``uvicorn.Config(http=…)``."""
    return type("Bounded", (BoundedProtocol,), {"limit": limit})
