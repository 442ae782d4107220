"""What carries a request to the front and its answer back: a connection of our own, or an ASGI server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, cast

Headers = Sequence[tuple[bytes, bytes]]


def retry_after(data: Any) -> Headers:
    """The header that says when to come back (RFC 9110, 10.2.3): what an error's ``data`` has as
    ``retry_after``, in seconds; none where it says nothing."""
    seconds = cast("dict[str, Any]", data).get("retry_after") if isinstance(data, dict) else None
    return [(b"retry-after", b"%d" % seconds)] if isinstance(seconds, int) else []


class ClientGone(Exception):
    """The client closed the connection before it got its answer."""


class Wire(Protocol):
    """One request and its answer: ``answer``, or ``start``, any number of ``write``, ``end``.

    ``gone``: whether the client has left. What is sent after that goes nowhere. ``begun``: whether something
    of the answer was sent. ``peer``: the address at the other end; "" where nobody knows.
    """

    gone: bool
    begun: bool

    @property
    def peer(self) -> str: ...

    def whole(self) -> bytes | None:
        """All that is left of the request's body, if it has all come; else None, and nothing is taken."""
        ...

    async def read(self) -> bytes:
        """The next piece of the request's body; empty at its end. Raises ClientGone."""
        ...

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Call this once when the client leaves, soon if it has left already; not after the answer's end.
        Read the body to its end first."""
        ...

    def answer(self, status: int, base: Headers, more: Headers, body: bytes) -> Coroutine[Any, Any, None]:
        """The whole answer. ``base`` is one of few sequences of headers, so that its bytes can be kept;
        content-length is added. Returns when the client takes it, or has left. Raises ValueError, here and in
        ``start``, for headers that would break its form; nothing was sent then."""
        ...

    async def start(self, status: int, base: Headers, more: Headers) -> None:
        """Begin an answer whose length nobody knows yet."""
        ...

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body; waits while the client is slow."""
        ...

    def write_now(self, piece: bytes) -> bool:
        """Send a piece of the body, unless that has to wait, or the client has left: then False. An empty
        piece asks whether it could."""
        ...

    async def end(self) -> None:
        """The body has ended."""
        ...

    def last(self) -> None:
        """No request follows on the connection: the answer says so, if it has not begun."""
        ...

    def cut(self) -> None:
        """Have done with the client: for the request it is as if it had left."""
        ...
