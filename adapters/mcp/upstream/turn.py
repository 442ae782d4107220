"""One task at an MCP server: its call, which may go on while a question is open; what it tells meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec

from ....gateway.model import Event, InputRequest, Invocation
from ....gateway.ports import Tell
from ..wire import Caller, RpcError
from .choice import Chosen


class Asked(msgspec.Struct):
    """An elicitation in the middle of a handshake-era call."""

    request: InputRequest
    answer: asyncio.Future[dict[str, Any]]


class Turn:
    """One task: its first message, and whichever question is open."""

    def __init__(self, call: Invocation) -> None:
        self.call = call
        self.chosen: Chosen | None = None
        self.choosing = False
        # The call: to be made, made by whoever follows it (``direct``), or running in a task of its own.
        self.prepared: tuple[dict[str, Any], Caller] | None = None
        self.direct: asyncio.Task[Any] | None = None
        self.running: asyncio.Task[msgspec.Raw] | None = None
        self.stopped = False
        self.asked: deque[Asked] = deque()
        self._tell: Tell | None = None  # nobody listens while a question is open
        self._kept: list[Event] = []  # what came meanwhile
        self._news: asyncio.Future[None] | None = None
        # Modern: questions still to put, answers so far, and what the server wants back with them.
        self.to_ask: dict[str, InputRequest] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.state: Any = None
        self.links: RpcError | None = None  # the error that asked for addresses to be opened first
        self.rounds = 0

    def stop(self) -> None:
        self.stopped = True
        if (at_work := self.direct or self.running) is not None:
            at_work.cancel()

    @property
    def question(self) -> InputRequest | None:
        """The server's open question."""
        if self.asked:
            return self.asked[0].request
        return next(iter(self.to_ask.values()), None)

    # --- between the call, which goes on while a question is open, and who follows it -----------

    def tell(self, event: Event) -> None:
        """The call has something to tell, now or as soon as somebody listens."""
        if self._tell is not None:
            self._tell(event)
        else:
            self._kept.append(event)

    def ask(self, asked: Asked) -> None:
        """The call has a question."""
        self.asked.append(asked)
        self.wake()

    def wake(self, _: object = None) -> None:
        """Something has happened that is more than an event."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def news(self) -> None:
        """Wait for that."""
        assert self.running is not None
        self._news = self.running.get_loop().create_future()
        await self._news

    def listen(self, tell: Tell | None) -> None:
        """From now on events go to ``tell``."""
        self._tell = tell
        if tell is not None:
            kept, self._kept = self._kept, []
            if kept:
                tell(*kept)
