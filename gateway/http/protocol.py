"""uvicorn's HTTP/1.1, with a bound on a request's head while it is being read.

httptools has none: it takes head after head into memory. A head past the bound becomes a request marked
``scope["state"][HEAD_TOO_LARGE]`` with what was read of it, so that its door can say no in its own form; the
connection ends with the answer, and nothing more is read from it.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TOO_LARGE = "agentgw.head_too_large"


class BoundedProtocol(HttpToolsProtocol):
    """``limit``: bytes of request line and headers; trailers and chunk extensions count alike."""

    limit = 64 * 1024
    _unheard = 0  # bytes since the parser last said that something was complete
    _heard = False
    _refused = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._heard = False
        super().data_received(data)
        self._unheard = 0 if self._heard else self._unheard + len(data)
        if self._unheard > self.limit:
            self._refuse()

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
